// Builds weir.js from the modules: `npm ci --ignore-scripts && npm run build`. An argument names
// another output file.

import { build } from "esbuild";

await build({
  entryPoints: ["weir/index.js"],
  outfile: process.argv[2] ?? "dist/weir.js",
  absWorkingDir: import.meta.dirname,
  bundle: true,
  minify: true,
  format: "esm",
  target: "esnext",
  legalComments: "none",
  charset: "utf8",
  banner: { js: "// Weir's browser client, MIT OR Apache-2.0. Its sources are in web/weir/." },
});
