// The vectors of tests/vectors, in the browsers' own engines.

import assert from "node:assert/strict";
import { scenario } from "./harness/suite.mjs";

scenario("weir.js encodes and decodes as the vectors say", async (browser, t) => {
  const files = await t.files();
  const tab = await browser.tab(files.url);
  for (const name of ["frames.json", "invalid.json"]) {
    const said = await tab.evaluate(async (name) => {
      const { run } = await import("/tests/js/vectors.mjs");
      const vectors = await (await fetch(`/tests/vectors/${name}`)).json();
      return { there: vectors.length, ...run(vectors) };
    }, name);
    assert.deepEqual(said.failed, []);
    assert.equal(said.passed, said.there);
    assert.ok(said.there > 40, `only ${said.there} vectors`);
    t.diagnostic(`${name}: ${said.passed} of ${said.there}`);
  }
  await tab.close();
});
