// Certificates in files that change while browsers are connected: open sessions go on, and new ones see
// the new certificate.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, createPublicKey, X509Certificate } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch } from "./harness/browsers.mjs";
import { connected } from "./harness/client.mjs";
import { binary } from "./harness/daemon.mjs";
import { until } from "./harness/process.mjs";
import { scenario } from "./harness/suite.mjs";

const NOISE = /WebTransport|WebSocket|ERR_|connection|Cross-Origin|fetch|favicon/i;

/** Pairs of a certificate and its key, and the files that the daemon has. */
class Certificates {
  constructor() {
    this.home = mkdtempSync(join(tmpdir(), "weir-browser-"));
    this.certificate = join(this.home, "certificate.pem");
    this.key = join(this.home, "key.pem");
    this.env = {
      WEIR_TLS__CERTIFICATE: this.certificate,
      WEIR_TLS__KEY: this.key,
      WEIR_TLS__CHECK: "50ms",
      WEIR_HTTP__NAMES: '["localhost"]',
    };
  }

  at(name) {
    return join(this.home, name);
  }

  /** Makes a pair for this machine that no authority vouches for. */
  selfSigned(name) {
    execFileSync(binary, ["cert", "new", "--names", "localhost,127.0.0.1", "--out", this.at(name)]);
    return this.at(name);
  }

  openssl(...args) {
    execFileSync("openssl", args, { cwd: this.home, stdio: "pipe" });
  }

  /** Makes an authority. */
  authority() {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    this.openssl("req", "-x509", ...key, "-days", "90", "-subj", "/CN=Authority of the tests", "-keyout", "ca.key",
      "-out", "ca.pem");
    return this.at("ca.pem");
  }

  /** Makes a pair for this machine that the authority vouches for. */
  issued(name) {
    execFileSync("mkdir", [this.at(name)]);
    const pem = (part) => join(name, `${part}.pem`);
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", pem("key")];
    this.openssl("req", "-new", ...key, "-subj", "/CN=relay", "-out", pem("request"));
    writeFileSync(this.at("extensions"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n");
    this.openssl("x509", "-req", "-in", pem("request"), "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "60", "-out",
      pem("certificate"), "-extfile", "extensions");
    return this.at(name);
  }

  /** Gives a pair to the daemon, as a tool does that renews it. */
  use(pair) {
    for (const file of ["key.pem", "certificate.pem"]) {
      copyFileSync(join(pair, file), this.at("new"));
      renameSync(this.at("new"), this.at(file));
    }
  }

  async end() {
    rmSync(this.home, { recursive: true, force: true });
  }
}

const read = (pair) => new X509Certificate(readFileSync(join(pair, "certificate.pem")));
const sha256 = (pair) => read(pair).fingerprint256.replaceAll(":", "").toLowerCase();
const keyHash = (pair) =>
  createHash("sha256").update(createPublicKey(read(pair).publicKey.export({ type: "spki", format: "pem" }))
    .export({ type: "spki", format: "der" })).digest("base64");

/** What the daemon presents over both QUIC and TCP. Nothing if these differ: it may change between the two looks. */
const presented = (daemon) => {
  const output = execFileSync(binary, ["cert", "show", "--server", daemon.listen, "--json"], { encoding: "utf8" });
  const { sha256, over } = JSON.parse(output.split("\n")[0]);
  return over.length === 2 ? sha256 : null;
};

/** A tab with a session and a subscription, which change the certificate and then lose their session. */
async function changes(tab, daemon, pairs, certificates, pinning) {
  tab.expect(NOISE);
  assert.equal(await tab.evaluate(() => client.transport), "webtransport");
  await tab.evaluate(async () => {
    window.seen = [];
    const subscription = client.subscribe("demo/*", { from: "all" });
    await subscription.ready;
    (async () => {
      for await (const { kind, sequence } of subscription) seen.push([kind, sequence]);
    })();
    window.receipts = [];
    window.publishing = setInterval(() => receipts.push(client.publish("demo/own", `own ${receipts.length}`)), 10);
  });
  for (const pair of pairs) {
    certificates.use(pair);
    await until(() => presented(daemon) === sha256(pair), { timeout: 10_000, what: "the daemon presents it" });
    const before = await tab.evaluate(() => seen.length);
    await tab.until((before) => seen.length > before + 20, before);
    // The open session has gone on.
    const opened = () => window.opened.filter((wire) => wire instanceof WebTransport).length;
    const sessions = await tab.evaluate(opened);
    assert.equal(await tab.evaluate(() => states.length), 0);
    await tab.evaluate(() => void window.opened.filter((wire) => wire instanceof WebTransport).at(-1).close());
    await tab.until(() => states.length >= 2 && client.state === "open", null, { timeout: 20_000 });
    assert.ok((await tab.evaluate(opened)) > sessions);
    await tab.until(() => client.transport === "webtransport", null, { timeout: 45_000 });
    await tab.evaluate(() => void (states.length = 0));
    const facts = await tab.evaluate(() => fetch("/certificate.sha256").then((answer) => answer.json()));
    assert.deepEqual([facts.pinning, facts.current, facts.next], [pinning, sha256(pair), null]);
  }
  const own = await tab.evaluate(async () => {
    clearInterval(publishing);
    return (await Promise.all(receipts)).map(({ sequence, count }) => [sequence, count]);
  });
  await tab.until((all) => seen.length >= all, own.length);
  assert.deepEqual(own, own.map((_, i) => [i + 1, 1]));
  assert.deepEqual(await tab.evaluate(() => seen), own.map((_, i) => ["message", i + 1]));
  await tab.close();
}

scenario("a self-signed certificate in files changes: pages pin the new one", async (browser, t) => {
  const certificates = t.keep(new Certificates());
  const [first, ...pairs] = ["1", "2", "3"].map((name) => certificates.selfSigned(name));
  certificates.use(first);
  const daemon = await t.daemon({ env: certificates.env });
  const tab = await connected(browser, daemon, {}, { spy: true });
  await changes(tab, daemon, pairs, certificates, true);
}, { timeout: 120_000 });

scenario("an authority's certificate changes: pages pin nothing", async ({ name }, t) => {
  const certificates = t.keep(new Certificates());
  const authority = certificates.authority();
  const [first, ...pairs] = ["1", "2", "3"].map((name) => certificates.issued(name));
  certificates.use(first);
  const daemon = await t.daemon({ env: certificates.env });
  const browser = await launch(name, { trust: { authority, keys: [first, ...pairs].map(keyHash) } });
  try {
    // The page itself is from the daemon's own port.
    const tab = await connected(browser, { ...daemon, url: daemon.secureUrl }, {}, { spy: true });
    await changes(tab, daemon, pairs, certificates, false);
  } finally {
    await browser.close();
  }
}, { timeout: 180_000 });
