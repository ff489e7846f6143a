// Builds weir.js from the modules: `npm ci --ignore-scripts && npm run build`. An argument names
// another output file.

import { readFileSync } from "node:fs";
import { build } from "esbuild";

// Private members get short names. internal.json lists members that modules use of each other, which
// get short names too. None of them may be a name in weir.d.ts, in a frame, or of a browser's object.
const internal = JSON.parse(readFileSync(new URL("internal.json", import.meta.url), "utf8"));

await build({
  entryPoints: ["weir/index.js"],
  outfile: process.argv[2] ?? "dist/weir.js",
  absWorkingDir: import.meta.dirname,
  bundle: true,
  minify: true,
  mangleProps: new RegExp(`^(${internal.join("|")})$`),
  format: "esm",
  target: "esnext",
  legalComments: "none",
  charset: "utf8",
  banner: { js: "// weir-relay, MIT OR Apache-2.0" },
});
