// Debian's Chromium and Debian's Firefox behind one face. Neither is told anything that a user's
// browser is not told: no flags for QUIC or certificates, no switched-off checks. Only the test of
// certificates from an authority has browsers that trust that authority.
//
// What was found out with Chromium 156 and Firefox 153 (ESR), both headless:
// - Both open a WebTransport session pinned by `serverCertificateHashes` without any flag or pref.
// - Both refuse a hash that is not the certificate's.
// - Firefox has to be driven over WebDriver BiDi; it starts in about a second when it has been
//   started before.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";
import { own, tree, until, within } from "./process.mjs";

/** Which browsers to test with; WEIR_BROWSERS=firefox for one only. */
export const browsers = (process.env.WEIR_BROWSERS ?? "chromium firefox").split(" ");

// No test needs the network, and none must wait for one that swallows what it is sent: no name is
// looked up, and evil.test and its like are this machine, as localhost is. Most of what a browser
// asks for by itself is switched off by the drivers; with the rest below, neither of the two was
// seen to look up a name or to open a connection but to this machine.
const chromiumFlags = [
  "--no-sandbox", // the tests run as root, on pages of their own
  "--disable-gpu",
  "--host-resolver-rules=MAP *.test 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1, " +
    "MAP * ~NOTFOUND",
];
const firefoxPreferences = {
  "network.dns.localDomains": ["evil.test", "friend.test", "rebind.test"].join(","),
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.download.folderList": 2,
  "browser.download.always_ask_before_handling_new_types": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "extensions.getAddons.cache.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "services.settings.server": "data:,#remote-settings-dummy/v1",
};
// Without it the last one is ignored.
const firefoxEnvironment = { ...process.env, MOZ_REMOTE_SETTINGS_DEVTOOLS: "1" };

/**
 * Starts a browser. `secure`: origins below http://….test:port that count as secure, as those with
 * https do, and so have WebTransport. `trust`: an authority's certificate in a file, and the keys that it
 * has certified, as base64 of the SHA-256 of their SubjectPublicKeyInfo. Firefox is given the authority, and
 * Chromium the keys.
 */
export async function launch(name, { secure = [], trust } = {}) {
  const open = { chromium: launchChromium, firefox: launchFirefox }[name];
  if (!open) throw new Error(`no such browser: ${name}`);
  return within(60_000, `${name} starts`, open(secure, trust));
}

async function launchChromium(secure, trust) {
  const before = new Set(tree(process.pid));
  const browser = await chromium.launch({
    executablePath: process.env.WEIR_CHROMIUM ?? "/usr/bin/chromium",
    args: [
      ...chromiumFlags,
      `--unsafely-treat-insecure-origin-as-secure=${secure.join(",")}`,
      // Without the first one, WebTransport needs an authority that Chromium itself knows.
      ...(trust
        ? ["--webtransport-developer-mode", `--ignore-certificate-errors-spki-list=${trust.keys.join(",")}`]
        : []),
    ],
    timeout: 45_000,
  });
  const pid = tree(process.pid).find((pid) => !before.has(pid));
  own(pid);
  return new Browser("chromium", pid, browser.version(), {
    context: async (size) => {
      const context = await browser.newContext(size ? { viewport: size, deviceScaleFactor: size.ratio ?? 1 } : {});
      return { page: () => context.newPage(), close: () => context.close() };
    },
    downloaded: (page) => page.waitForEvent("download", { timeout: 10_000 }),
    close: () => browser.close(),
  });
}

async function launchFirefox(secure, trust) {
  let profile;
  if (trust) {
    profile = mkdtempSync(join(tmpdir(), "weir-browser-"));
    const database = `sql:${profile}`;
    execFileSync("certutil", ["-N", "--empty-password", "-d", database]);
    execFileSync("certutil", ["-A", "-n", "tests", "-t", "C,,", "-i", trust.authority, "-d", database]);
  }
  const downloads = mkdtempSync(join(tmpdir(), "weir-browser-"));
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.WEIR_FIREFOX ?? "/usr/bin/firefox-esr",
    headless: true,
    userDataDir: profile,
    env: firefoxEnvironment,
    extraPrefsFirefox: {
      ...firefoxPreferences,
      // With an authority of the user's own, Firefox does without QUIC by default.
      ...(trust ? { "network.http.http3.disable_when_third_party_roots_found": false } : {}),
      "browser.download.dir": downloads,
      "dom.securecontext.allowlist": secure.map((origin) => new URL(origin).hostname).join(","),
    },
    timeout: 45_000,
    protocolTimeout: 120_000,
  });
  const { pid } = browser.process();
  own(pid);
  return new Browser("firefox", pid, (await browser.version()).replace(/^.*\//, ""), {
    context: async (size) => {
      const context = await browser.createBrowserContext();
      const page = async () => {
        const page = await context.newPage();
        if (size) {
          // Some versions cannot turn a screen, which the driver asks for in the same breath.
          await page.setViewport({ ...size, deviceScaleFactor: size.ratio ?? 1 }).catch((error) => {
            if (!String(error).includes("setScreenOrientationOverride")) throw error;
          });
          await page.waitForFunction((width) => innerWidth === width, {}, size.width);
        }
        return page;
      };
      return { page, close: () => context.close() };
    },
    // It tells its driver nothing of a download but that the navigation goes on.
    downloaded: async () => {
      const before = readdirSync(downloads).length;
      await until(() => readdirSync(downloads).length > before, { what: "a download" });
    },
    close: async () => {
      await browser.close();
      rmSync(downloads, { recursive: true, force: true });
      if (profile) rmSync(profile, { recursive: true, force: true });
    },
  });
}

class Browser {
  #driver;
  #profile;
  #tabs = new Set();

  constructor(name, pid, version, driver) {
    this.name = name;
    this.pid = pid;
    this.version = version;
    this.#driver = driver;
  }

  /** A new tab at this address, beside the others. */
  async tab(url) {
    this.#profile ??= this.#driver.context();
    return this.#open(await this.#profile, url);
  }

  /**
   * Opens a tab that shares nothing with the others: no cache, no storage, no connections. `size` has its
   * `width` and `height` in CSS pixels, and the `ratio` of device pixels to them, 1 by default.
   */
  async stranger(url, size) {
    const profile = await this.#driver.context(size);
    return this.#open(profile, url, () => profile.close());
  }

  async #open(profile, url, after = async () => {}) {
    const page = await within(20_000, `${this.name} opens a tab`, profile.page());
    const tab = new Tab(this, page, this.#driver.downloaded, async () => {
      this.#tabs.delete(tab);
      await page.close();
      await after();
    });
    this.#tabs.add(tab);
    if (url) await tab.goto(url);
    return tab;
  }

  /** Closes what a failed test has left open, without a word. */
  async tidy() {
    for (const tab of [...this.#tabs]) await tab.drop().catch(() => {});
  }

  close() {
    return within(20_000, `${this.name} closes`, this.#driver.close());
  }
}

class Tab {
  #page;
  #downloaded;
  #close;
  #expected = [];
  /** Everything on the console, for the reader of a failed test. */
  log = [];
  /** Errors on the console, exceptions nobody caught, dialogs, crashes. */
  errors = [];

  constructor(browser, page, downloaded, close) {
    this.browser = browser;
    this.#downloaded = downloaded;
    this.#page = page;
    this.#close = close;
    const note = (kind, text, wrong) => {
      this.log.push(`${kind}: ${text}`);
      if (wrong) this.errors.push(`${kind}: ${text}`);
    };
    page.on("console", (message) => {
      const type = message.type();
      const { url = "" } = message.location?.() ?? {};
      note(`console.${type}`, `${message.text()} ${url}`.trim(), type === "error");
    });
    page.on("pageerror", (error) => note("uncaught", error?.message ?? error, true));
    page.on("crash", () => note("crash", "", true));
    page.on("error", (error) => note("crash", error.message, true));
    page.on("dialog", (dialog) => {
      note("dialog", dialog.message(), true);
      dialog.dismiss().catch(() => {});
    });
  }

  async goto(url, { timeout = 20_000 } = {}) {
    await this.#page.goto(url, { timeout, waitUntil: "load" });
  }

  /** Goes where there may be no page: `shown`, `download`, or what the browser says of it. */
  visit(url) {
    const downloaded = this.#downloaded(this.#page).then(() => "download");
    const shown = this.goto(url).then(
      () => "shown",
      // As for a download that has begun.
      (error) => (/aborted|download/i.test(error.message) ? downloaded : error.message),
    );
    downloaded.catch(() => {});
    return Promise.race([shown, downloaded.catch(() => shown)]);
  }

  /** Runs the function in every page that this tab goes to from here on, before its scripts. */
  async before(call) {
    if (this.#page.addInitScript) await this.#page.addInitScript(call);
    else await this.#page.evaluateOnNewDocument(call);
  }

  async reload() {
    await this.#page.reload({ timeout: 20_000, waitUntil: "load" });
  }

  /**
   * Runs the function in the page, with one argument that JSON can say, and gives what it resolves
   * to, if JSON can say that; or evaluates an expression.
   */
  evaluate(call, argument, { timeout = 30_000 } = {}) {
    const what = `in ${this.browser.name}: ${String(call).slice(0, 200)}`;
    const result = within(timeout, what, this.#page.evaluate(call, argument)).catch((error) => {
      error.message += this.#last();
      throw error;
    });
    // Awaited later, perhaps, when something else has been done meanwhile.
    result.catch(() => {});
    return result;
  }

  /** Asks the page until the answer is true in JavaScript's sense, and gives it back. */
  async until(call, argument, { timeout = 10_000, what = String(call) } = {}) {
    try {
      what = `in ${this.browser.name}: ${what}`;
      return await until(() => this.evaluate(call, argument), { timeout, what });
    } catch (error) {
      if (!error.message.includes("the console:")) error.message += this.#last();
      throw error;
    }
  }

  #last() {
    return `\nthe console:\n${this.log.slice(-20).join("\n")}`;
  }

  click(selector) {
    return within(10_000, `click ${selector}`, this.#page.click(selector));
  }

  type(selector, text) {
    return within(10_000, `type into ${selector}`, this.#page.type(selector, text));
  }

  /** Puts the focus there and presses a key, such as ArrowRight. */
  async press(selector, key) {
    await within(10_000, `focus ${selector}`, this.#page.focus(selector));
    await within(10_000, `press ${key}`, this.#page.keyboard.press(key));
  }

  /** A picture of the window, or of the whole page. */
  screenshot(path, { whole = false } = {}) {
    return within(20_000, "screenshot", this.#page.screenshot({ path, fullPage: whole }));
  }

  /** The colours that the user prefers: light or dark. */
  async colours(scheme) {
    if (this.#page.emulateMedia) await this.#page.emulateMedia({ colorScheme: scheme });
    else await this.#page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  }

  /** From here on, errors that match are no reason to fail, such as that of a refused connection. */
  expect(pattern) {
    this.#expected.push(pattern);
  }

  /** Errors that nobody expected. */
  get unexpected() {
    return this.errors.filter((error) => !this.#expected.some((pattern) => pattern.test(error)));
  }

  /** Closes the tab; fails if there were errors in it that nobody expected. */
  async close() {
    await within(10_000, "the tab closes", this.#close());
    const { unexpected } = this;
    if (unexpected.length) throw new Error(`errors in ${this.browser.name}:\n${unexpected.join("\n")}`);
  }

  drop() {
    return within(10_000, "the tab closes", this.#close());
  }
}
