// A small server for the tests' own pages: an empty page at /, the same with a strict policy at /bound.
// The page's files and the built weir.js are at /web/, this repository's tests at /tests/. It stands on an origin of its own, as a page of someone who
// uses a daemon elsewhere does.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const tests = fileURLToPath(new URL("../..", import.meta.url));
/** The folder of weir.js and of the page. */
export const web = process.env.WEIR_WEB ?? join(tests, "../web");

const types = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

export class Files {
  static async start() {
    const files = new Files();
    /** Paths asked for that are no files: how a script tells that it was run. */
    files.called = [];
    files.server = createServer((request, response) => files.answer(request, response));
    await new Promise((resolve) => files.server.listen(0, "127.0.0.1", resolve));
    files.server.unref();
    files.port = files.server.address().port;
    files.url = `http://127.0.0.1:${files.port}`;
    return files;
  }

  async answer(request, response) {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    response.setHeader("cache-control", "no-store");
    if (path === "/" || path === "/bound") {
      response.setHeader("content-type", types[".html"]);
      // A page that may connect to its own origin only.
      if (path === "/bound") response.setHeader("content-security-policy", "connect-src 'self'");
      // An icon of its own, or Chromium asks for one and complains that there is none.
      response.end('<!doctype html><meta charset="utf-8"><title>test</title><link rel="icon" href="data:,">');
      return;
    }
    const [, top, rest] = /^\/(web|tests)\/(.*)$/.exec(path) ?? [];
    try {
      const built = path === "/web/weir.js" ? "dist/weir.js" : rest;
      const body = await readFile(join(top === "web" ? web : tests, built));
      response.setHeader("content-type", types[extname(path)] ?? "application/octet-stream");
      response.end(body);
    } catch {
      this.called.push(path);
      response.statusCode = 404;
      response.end();
    }
  }

  end() {
    this.server.closeAllConnections?.();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
