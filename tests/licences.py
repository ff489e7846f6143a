#!/usr/bin/env python3
"""Checks every package in Cargo.lock, for all platforms: its licence is one that this project can
be shipped under, it comes from the package registry, and it needs no newer Rust than Cargo.toml
states."""

import json
import pathlib
import re
import subprocess
import sys

# Permissive ones: they ask for attribution at most.
ALLOWED = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
}


def allowed(expression):
    """Whether an SPDX expression can be met with the licences above. AND binds more than OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def one():
        token = tokens.pop(0)
        if token == "(":
            result = any_of()
            tokens.pop(0)
            return result
        if tokens[:1] == ["WITH"]:
            # An exception only gives more rights.
            del tokens[:2]
        return token in ALLOWED

    def all_of():
        result = one()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            result &= one()
        return result

    def any_of():
        result = all_of()
        while tokens[:1] == ["OR"]:
            tokens.pop(0)
            result |= all_of()
        return result

    return any_of()


def version(text):
    return tuple(map(int, (text.split(".") + ["0", "0"])[:3]))


def main():
    for expression, expected in [
        ("MIT/Apache-2.0", True),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("GPL-3.0 OR ISC", True),
        ("Apache-2.0 AND GPL-3.0", False),
        ("GPL-3.0 OR LGPL-2.1 AND MIT", False),
        ("Apache-2.0 WITH LLVM-exception", True),
    ]:
        assert allowed(expression) is expected, expression

    root = pathlib.Path(__file__).resolve().parent.parent
    said = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"], cwd=root, check=True, stdout=subprocess.PIPE
    )
    packages = json.loads(said.stdout)["packages"]
    [own] = [package for package in packages if package["source"] is None]
    wrong = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not package["license"] or not allowed(package["license"]):
            wrong.append(f"{name}: licence {package['license'] or 'not stated'}")
        if package is not own and not package["source"].startswith("registry+"):
            wrong.append(f"{name}: from {package['source']}")
        needs = package["rust_version"]
        if needs and version(needs) > version(own["rust_version"]):
            wrong.append(f"{name}: needs Rust {needs}, Cargo.toml states {own['rust_version']}")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(packages) - 1} packages: licences allowed, Rust {own['rust_version']} is enough")


if __name__ == "__main__":
    main()
