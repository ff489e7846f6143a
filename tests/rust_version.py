#!/usr/bin/env python3
"""Checks every package in Cargo.lock that the crate needs, for all platforms: it needs no newer Rust
than Cargo.toml states. tests/deny checks licences, sources and duplicates."""

import json
import pathlib
import subprocess
import sys


def version(text):
    return tuple(map(int, (text.split(".") + ["0", "0"])[:3]))


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    said = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"], cwd=root, check=True, stdout=subprocess.PIPE
    )
    packages = json.loads(said.stdout)["packages"]
    [own] = [package for package in packages if package["name"] == "weir-relay"]
    wrong = []
    for package in packages:
        needs = package["rust_version"]
        if needs and version(needs) > version(own["rust_version"]):
            name = f"{package['name']} {package['version']}"
            wrong.append(f"{name}: needs Rust {needs}, Cargo.toml states {own['rust_version']}")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(packages) - 1} packages: Rust {own['rust_version']} is enough")


if __name__ == "__main__":
    main()
