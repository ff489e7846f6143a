// What the browsers themselves do with the daemon's WebTransport, without weir.js.

import assert from "node:assert/strict";
import { scenario } from "./harness/suite.mjs";

async function tab(browser, t) {
  const daemon = await t.daemon();
  const files = await t.files();
  const tab = await browser.tab(files.url);
  await tab.evaluate(
    async ({ listen, hash }) => {
      const raw = await import("/tests/browser/pages/raw.mjs");
      window.raw = raw;
      window.peer = new raw.Raw(listen, hash);
    },
    { listen: daemon.listen, hash: daemon.hash },
  );
  return { daemon, tab };
}

scenario("a session pinned by the certificate's hash", async (browser, t) => {
  const { tab: page } = await tab(browser, t);
  const took = await page.evaluate(async () => {
    const start = performance.now();
    await peer.open();
    return performance.now() - start;
  });
  t.diagnostic(`dial to Welcome: ${took.toFixed(0)} ms`);
  await page.close();
});

scenario("another hash is refused", async (browser, t) => {
  const { daemon, tab: page } = await tab(browser, t);
  page.expect(/ERR_QUIC_PROTOCOL_ERROR|CERTIFICATE|WebTransport/);
  const said = await page.evaluate(async (listen) => {
    const wrong = new raw.Raw(listen, "00".repeat(32));
    return wrong.session.ready.then(
      () => "opened",
      (error) => error.name,
    );
  }, daemon.listen);
  assert.equal(said, "WebTransportError");
  await page.close();
});

// Two traps, both about what a page has not read yet:
// - A browser drops it when the connection closes. So the daemon leaves closing to the client, for a
//   second.
// - Firefox 153 drops it when it gets STOP_SENDING for a bidirectional stream, and errors both
//   directions of it, although that is about the other direction. (Chromium 156 goes on reading.)
//   A daemon that lets go of its receiving half of the control stream sends just that. Tried with
//   another server: with FIN alone the goodbye is read, with STOP_SENDING beside it, it is not.
scenario("the goodbye of a daemon that stops is read", async (browser, t) => {
  const { daemon, tab: page } = await tab(browser, t);
  page.expect(/connection|WebTransport|ERR_/i);
  await page.evaluate(() => peer.open());
  const goodbye = page.evaluate(async () => {
    const goodbye = await peer.goodbye();
    peer.session.close();
    return goodbye;
  });
  await daemon.stop();
  const { code, reason, retry } = await goodbye;
  assert.equal(code, 0x01);
  assert.match(reason, /the daemon is stopping/);
  assert.equal(retry, true);
  await page.close();
});

scenario("the goodbye after a violation is read, whatever else is unread", async (browser, t) => {
  const { daemon, tab: page } = await tab(browser, t);
  page.expect(/connection|WebTransport|ERR_/i);
  await daemon.lines(
    "demo/a",
    Array.from({ length: 1000 }, (_, i) => `${i} `.padEnd(1000, ".")),
  );
  const goodbye = await page.evaluate(async () => {
    await peer.open();
    // Subscribe to all of demo/a, read nothing of it; then a second Hello.
    await peer.writer.write(raw.unhex("0d060106" + "64656d6f2f61" + "02000000"));
    await peer.frame(13);
    await peer.writer.write(raw.hello);
    return peer.goodbye();
  });
  assert.equal(goodbye.code, 0x12, JSON.stringify(goodbye));
  assert.equal(goodbye.retry, false);
  t.diagnostic(goodbye.reason);
  await page.close();
});
