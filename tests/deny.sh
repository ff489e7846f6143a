#!/usr/bin/env bash
# Licences, sources, duplicates and known vulnerabilities of what the project depends on, with
# cargo-deny by the rules of .ci/deny.toml.
#
# Without cargo-deny, it is built once into TARGET_DIR/tools: a minute on two cores. The database of
# vulnerabilities is a repository of its own, which many machines cannot reach. Without it they are
# not checked, and a line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/tools.sh
deny=$(cargo_tool cargo-deny 0.20.2)
check() { "$deny" --locked --workspace --config .ci/deny.toml "$@"; }
check check --hide-inclusion-graph licenses bans sources
databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
if compgen -G "$databases/*" >/dev/null; then
    check --offline check --hide-inclusion-graph advisories
else
    echo "known vulnerabilities: NOT checked, because there is no database in $databases; cargo deny fetch gets it"
fi
