#!/usr/bin/env python3
"""Runs the commands of README.md and of pages in docs: tests/readme.py path/to/weir

In a ```console block a line that begins with "$ " is a command, and the lines below it are what it
prints, which is compared: "…" stands for anything, and a line that is only "…" for any number of
lines. `cargo run --release -- X` is run as `weir X`. The daemon and subscriptions without --count
run to the end; their lines are the first ones that they print. All pages use the same daemon.

The table of docs/configuration.md must have every key of the configuration, with its default.

Every ```toml block of the pages is a configuration that `weir check-config` accepts, unless it is of Cargo.

The daemon has a free port and a state directory of its own; the pages show its default port.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ["README.md", "docs/command-line.md", "docs/metrics.md", "docs/access.md", "docs/certificates.md"]
WRITING = ["docs/access.md"]  # its commands write files, and run in a directory of their own
CLOSED = ("README.md", "Close it")
SETTINGS = "docs/configuration.md"
PATIENCE = 20  # seconds
OPEN = "open: whoever can reach it may publish and read everything (docs/access.md); --listen 127.0.0.1:4433 keeps it to this machine"


def split(page, text):
    """The parts of a page, each with its name: a section of CLOSED has a daemon of its own."""
    if page != CLOSED[0]:
        return [(page, text)]
    before, rest = text.split(f"\n## {CLOSED[1]}\n", 1)
    section, after = rest.split("\n## ", 1)
    return [(page, before + "\n## " + after), (f"{page}, {CLOSED[1]}", section)]


def commands(text):
    """(command, expected lines), in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def pattern(lines, whole):
    parts = []
    for line in lines:
        if line == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(re.escape(line).replace("…", ".*") + r"\n")
    return re.compile("".join(parts) + (r"\Z" if whole else ""))


def check_limits(text, configuration):
    """Every `key = value` of the configuration stands in a row of the table."""
    section = ""
    for line in configuration.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif " = " in line and not line.startswith("#"):
            key, value = line.split(" = ")
            row = re.search(rf"^\|.*\| `{re.escape(section + key)}` \| (.*) \|$", text, re.M)
            shown = re.sub(r"[ ,`]", "", row[1]) if row else "nothing"
            if not shown.startswith(re.sub(r"[ ,`]", "", value).strip('"')):
                sys.exit(f"FAILED: the default of {section}{key} is {value}, {SETTINGS} says {shown}")


def check_examples(weir):
    """Every configuration that a page shows is one."""
    number = 0
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S):
            if "[dependencies]" in text:
                continue
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(text)
                file.flush()
                done = subprocess.run([weir, "check-config", file.name], capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"FAILED: {page.relative_to(ROOT)} shows a wrong configuration:\n{text}\n{done.stderr}")
            number += 1
    print(f"  all {number} configurations that the pages show are accepted")


def addressed(command, http, ops):
    """The command, for the addresses of this daemon."""
    return command.replace("http://localhost:8080", http or "").replace("http://127.0.0.1:9090", ops or "")


def wait(what, ready):
    end = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what}")
        time.sleep(0.02)


def run(weir, shown, open_to_all):
    running = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "bin").mkdir()
        (work / "bin/weir").symlink_to(weir)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        environment |= {
            "PATH": f"{work}/bin:{os.environ['PATH']}",
            "HOME": str(work),
            "XDG_STATE_HOME": str(work),
            "WEIR_LISTEN": "127.0.0.1:0",
            "WEIR_HTTP__LISTEN": "127.0.0.1:0",
            "WEIR_OPS__LISTEN": "127.0.0.1:0",
            "RUST_LOG": "weir=debug",
            "NO_COLOR": "1",
        }
        environment.pop("STATE_DIRECTORY", None)
        address = http = ops = None

        def normal(text):
            if address:
                port = address.rsplit(":", 1)[1]
                text = text.replace(address, "[::]:4433").replace(f" --server localhost:{port}", "")
                text = text.replace(http, "http://localhost:8080")
                # On loopback, where the tests stay, it has no reason to say this.
                if open_to_all:
                    text = text.replace("(TCP)\n", f"(TCP)\n{OPEN}\n")
            return text

        def check(page, command, expected, printed, whole):
            if not pattern(expected, whole).match(printed):
                sys.exit(f"FAILED: {command}\n{page} says:\n" + "\n".join(expected) + f"\nit prints:\n{printed}")

        try:
            for number, (page, command, expected) in enumerate(shown):
                command = command.replace("cargo run --release -- ", "weir ")
                words = shlex.split(command)
                own = {}
                while "=" in words[0]:
                    name, value = words.pop(0).split("=", 1)
                    own[name] = value
                stays = words[:2] == ["weir", "serve"] or (
                    words[:2] == ["weir", "sub"] and "--count" not in words
                )
                print("  $", command, flush=True)
                if stays:
                    out, err = work / f"{number}.out", work / f"{number}.err"
                    process = subprocess.Popen(
                        words, cwd=ROOT if open_to_all else work, env=environment | own, stdout=out.open("w"),
                        stderr=err.open("w"),
                    )
                    running.append((command, expected, process, out, err))
                    if words[1] == "serve":
                        wait("the daemon does not say where it listens", lambda: "weir pub" in out.read_text())
                        address = re.search(r"listens on (\S+):", out.read_text())[1]
                        http = re.search(r"in a browser: *(\S+)", out.read_text())[1]
                        metrics = re.compile(r"metrics and health on (\S+)")
                        wait("no address of metrics", lambda: metrics.search(err.read_text()))
                        ops = metrics.search(err.read_text())[1]
                        environment["WEIR_SERVER"] = address
                        del environment["WEIR_LISTEN"], environment["WEIR_HTTP__LISTEN"]
                    else:
                        wait(f"no subscription: {command}", lambda: "subscribed" in err.read_text())
                    continue
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", addressed(command, http, ops)],
                    cwd=ROOT if open_to_all and page not in WRITING else work, env=environment, stdin=subprocess.DEVNULL,
                    capture_output=True, timeout=PATIENCE,
                )
                if done.returncode != 0:
                    sys.exit(f"FAILED: {command}\n{done.stderr.decode()}")
                printed = done.stdout.decode()
                if printed and not printed.endswith("\n"):
                    printed += "\n"
                check(page, command, expected, printed, whole=True)
            for command, expected, process, out, _ in reversed(running):
                wait(
                    f"{command} printed\n{out.read_text()}, not\n" + "\n".join(expected),
                    lambda: pattern(expected, whole=False).match(normal(out.read_text())),
                )
                if process.poll() is not None:
                    sys.exit(f"FAILED: {command} has ended, exit code {process.returncode}")
            print(f"  all {len(shown)} commands print what {' and '.join(dict.fromkeys(part for part, *_ in shown))} say")
        finally:
            for _, _, process, _, _ in reversed(running):
                process.terminate()
                process.wait()


def main():
    weir = pathlib.Path(sys.argv[1]).resolve(strict=True)
    said = subprocess.run([weir, "default-config"], check=True, capture_output=True, text=True)
    check_limits((ROOT / SETTINGS).read_text(), said.stdout)
    check_examples(weir)
    parts = [part for page in PAGES for part in split(page, (ROOT / page).read_text())]
    for own in [False, True]:
        shown = [(name, *command) for name, text in parts if (CLOSED[1] in name) == own for command in commands(text)]
        run(weir, shown, open_to_all=not own)


if __name__ == "__main__":
    main()
