import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { codec } from "../../web/weir/index.js";
import { read, run } from "./vectors.mjs";

const load = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url)));

for (const name of ["frames.json", "invalid.json"]) {
  test(`the vectors of ${name}`, () => {
    const vectors = load(name);
    assert.ok(vectors.length > 40);
    assert.deepEqual(run(vectors), { passed: vectors.length, failed: [] });
  });
}

test("frames survive any cutting", () => {
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 0x7fffffff) % n;
  for (let round = 0; round < 300; round++) {
    const payloads = Array.from({ length: random(20) }, () =>
      Uint8Array.from({ length: random(400) }, () => random(256)));
    const frames = payloads.map((payload, i) => codec.encode({ frame: "Publish", alias: i, number: i + 1, stamp: 0, payload }));
    const stream = Uint8Array.from(frames.flatMap((frame) => [...frame]));
    const chunks = [];
    for (let i = 0; i < stream.length; ) chunks.push(stream.subarray(i, (i += 1 + random(300))));
    const got = read(chunks, "daemon", 1000);
    assert.deepEqual(got.map((frame) => [...frame.payload]), payloads.map((p) => [...p]));
    assert.deepEqual(got.map((frame) => frame.alias), payloads.map((_, i) => i));
  }
});

test("a number of every width is read as it was written", () => {
  const sizes = [0, 1, 127, 128, 16383, 16384, 2 ** 21, 2 ** 31, 2 ** 32 - 1];
  for (const alias of sizes) {
    for (const stamp of [0, 2 ** 35, 2 ** 49, 2 ** 52 + 1, Number.MAX_SAFE_INTEGER, 2n ** 53n, 2n ** 64n - 1n]) {
      const payload = new Uint8Array(alias % 20000);
      const frame = { frame: "Publish", alias, number: stamp, stamp, payload };
      assert.deepEqual(read([codec.encode(frame)], "daemon"), [frame]);
    }
  }
});

test("what is no u32 or u64 is not written", () => {
  for (const k of [-1, 0.5, NaN, 2 ** 32, 2n ** 32n, undefined, null, "a"]) {
    assert.throws(() => codec.encode({ frame: "Top", request: 1, topic: "a", k }),
      (error) => error instanceof RangeError || error instanceof TypeError);
  }
});
