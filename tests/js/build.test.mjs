// web/dist/weir.js, as it is shipped: its size, its exports, and the names that the build shortens.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import * as built from "../../web/dist/weir.js";
import * as modules from "../../web/weir/index.js";

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("it has less than 12 KiB with gzip", () => {
  const { length } = gzipSync(read("web/dist/weir.js"), { level: 9 });
  console.log(`weir.js: ${length} bytes with gzip`);
  assert.ok(length < 12 << 10, `${length} bytes`);
});

test("it exports what the modules export", () => {
  assert.deepEqual(Object.keys(built), Object.keys(modules));
  const members = ({ prototype }) => Object.getOwnPropertyNames(prototype).sort();
  for (const name of ["Client", "Receiver", "WeirError"]) {
    assert.deepEqual(members(built[name]), members(modules[name]), name);
  }
  assert.deepEqual(members(built.codec.FrameReader), members(modules.codec.FrameReader));
});

test("no name is shortened that a page or the protocol knows", () => {
  const shortened = JSON.parse(read("web/internal.json"));
  // Without comments: only names count.
  const types = read("web/weir.d.ts").replace(/\/\*\*[^]*?\*\//g, "");
  const known = new Set([...types.matchAll(/\w+/g)].map(([name]) => name));
  const add = (value) => {
    if (typeof value === "string") known.add(value);
    else if (value && typeof value === "object") for (const [name, of] of Object.entries(value)) (known.add(name), add(of));
  };
  for (const { frame, fields } of JSON.parse(read("tests/vectors/frames.json"))) add({ [frame]: fields });
  assert.deepEqual(shortened.filter((name) => known.has(name)), []);
  assert.ok(known.has("maxPayload") && known.has("subscription"));
});

test("the lock file names no registry", () => {
  assert.doesNotMatch(read("web/package-lock.json"), /https?:|"resolved"/);
});
