// weir.js in a tab, as `client`, with what it says of its state written down in `states`.

/**
 * Opens a tab with a client that has a session with the daemon. `files`: on that server's origin,
 * with the weir.js that it has, instead of the daemon's. `spy`: see the function of that name.
 */
export async function connected(browser, daemon, options = {}, { files, spy = false } = {}) {
  const tab = await browser.tab(files ? files.url : `${daemon.url}/weir.js`);
  // Chromium looks for the icon of whatever it shows.
  tab.expect(/favicon\.ico/);
  if (spy) await tab.evaluate(spyOnTransports);
  const url = files ? daemon.url : undefined;
  await tab.evaluate(
    async ({ module, url, options }) => {
      const weir = await import(module);
      const client = await weir.connect(url, options);
      const states = [];
      client.addEventListener("state", ({ detail }) => states.push({ ...detail, at: performance.now() }));
      Object.assign(window, { weir, client, states });
    },
    { module: files ? "/web/weir.js" : "/weir.js", url, options },
  );
  return tab;
}

// Runs in the page: keeps what weir.js opens as `opened`, so that a test can do to it what weir.js
// never would.
function spyOnTransports() {
  window.opened = [];
  for (const name of ["WebTransport", "WebSocket"]) {
    window[name] = class extends window[name] {
      constructor(...given) {
        super(...given);
        window.opened.push(this);
      }
    };
  }
}
