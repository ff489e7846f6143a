// The demo page, through what it shows.

/** Opens the page in a tab and waits until its session is open. */
export async function page(browser, daemon, parameters = {}, { open = (url) => browser.tab(url) } = {}) {
  const tab = await open(`${daemon.url}/?${new URLSearchParams(parameters)}`);
  await state(tab, "open");
  return tab;
}

/** Waits until the page says so of its session. */
export const state = (tab, wanted, timeout = 10_000) =>
  tab.until((wanted) => document.querySelector("#state")?.dataset.state === wanted, wanted, {
    timeout,
    what: `the page's session is ${wanted}`,
  });

/** The lines of the chat, from the first to the last: sequence, count, text. */
export const lines = (tab) =>
  tab.evaluate(() =>
    [...document.querySelectorAll("#chat-log [data-sequence]")].map((line) => ({
      sequence: Number(line.dataset.sequence),
      count: Number(line.dataset.count),
      text: line.querySelector(".text").textContent,
    })),
  );

/** Says something, as a person does. */
export async function say(tab, text) {
  await tab.type("#chat-input", text);
  await tab.click("#chat-send");
}

/** Waits until the chat has so many lines, or one with this text. */
export const shown = (tab, wanted, timeout = 10_000) =>
  tab.until(
    (wanted) => {
      const lines = [...document.querySelectorAll("#chat-log [data-sequence]")];
      if (typeof wanted === "number") return lines.length >= wanted;
      return lines.some((line) => line.querySelector(".text").textContent === wanted);
    },
    wanted,
    { timeout, what: `the chat shows ${JSON.stringify(wanted)}` },
  );

/** What an element says; runs of white space are one space. */
export const text = (tab, selector) =>
  tab.evaluate(
    (selector) => document.querySelector(selector)?.textContent.trim().replace(/\s+/g, " "),
    selector,
  );
