// What each file of tests is made of: one test for each browser, with that browser, started once.

import { after, test } from "node:test";
import { browsers, launch } from "./browsers.mjs";
import { Daemon } from "./daemon.mjs";
import { Files } from "./files.mjs";

const running = new Map();

/** The browser, started when first asked for; it is closed after the file's last test. */
export function browser(name) {
  if (!running.has(name)) running.set(name, launch(name));
  return running.get(name);
}

after(async () => {
  for (const starting of running.values())
    await starting.then(
      (browser) => browser.close(),
      () => {},
    );
});

/**
 * One test in each browser. `run` gets a browser, and `t` with `t.daemon()`, `t.files()`: started
 * for this test, ended after it.
 */
export function scenario(title, run, { timeout = 60_000, only = browsers } = {}) {
  for (const name of browsers.filter((name) => only.includes(name))) {
    test(`${name}: ${title}`, { timeout }, async (t) => {
      await equipped(t, async () => run(await browser(name), t));
    });
  }
}

/** One test with all the browsers at once. */
export function together(title, run, { timeout = 90_000 } = {}) {
  test(title, { timeout }, async (t) => {
    await equipped(t, async () => run(await Promise.all(browsers.map(browser)), t));
  });
}

async function equipped(t, run) {
  const started = [];
  const keep = (thing) => (started.push(thing), thing);
  t.daemon = async (options) => keep(await Daemon.start(options));
  t.files = async () => keep(await Files.start());
  t.keep = keep;
  t.after(async () => {
    for (const starting of running.values())
      await starting.then(
        (browser) => browser.tidy(),
        () => {},
      );
    const failures = [];
    for (const thing of started.reverse()) await thing.end().catch((error) => failures.push(error));
    if (failures.length) throw failures[0];
  });
  try {
    await run();
  } catch (error) {
    for (const { log } of started) if (log) error.message += `\nthe daemon's log:\n${log.slice(-4000)}`;
    throw error;
  }
}
