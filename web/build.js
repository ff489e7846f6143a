// Builds weir.js from the modules: `npm ci --ignore-scripts && npm run build`. An argument names
// another output file.

import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";
import { minify } from "terser";

// Private members get short names. internal.json lists members that modules use of each other, which
// get short names too. None of them may be a name in weir.d.ts, in a frame, or of a browser's object.
const internal = JSON.parse(readFileSync(new URL("internal.json", import.meta.url), "utf8"));

const { outputFiles: [bundle] } = await build({
  entryPoints: ["weir/index.js"],
  absWorkingDir: import.meta.dirname,
  bundle: true,
  write: false,
  minify: true,
  mangleProps: new RegExp(`^(${internal.join("|")})$`),
  format: "esm",
  target: "esnext",
  charset: "utf8",
});
// With gzip this saves some 450 bytes. With their defaults, the last two options of `compress` save
// fewer.
const { code } = await minify(bundle.text, {
  module: true,
  ecma: 2020,
  compress: { passes: 3, pure_getters: true, inline: 1, lhs_constants: false },
  format: { comments: false, preamble: "// weir-relay, MIT OR Apache-2.0" },
});
writeFileSync(process.argv[2] ?? new URL("dist/weir.js", import.meta.url), `${code}\n`);
