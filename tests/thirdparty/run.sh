#!/bin/sh
# The third-party client against the vectors and a real daemon: tests/thirdparty/run.sh [path of weir] [for pytest ...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/../.venv

if [ $# -gt 0 ]; then
    WEIR_BIN=$(realpath "$1")
    export WEIR_BIN
    shift
fi

# Made anew where it is missing or half made; brought up to date where the requirements have changed.
if ! cmp -s "$here/requirements.txt" "$venv/installed"; then
    if ! python3 -m venv --clear "$venv" 2>/dev/null; then
        [ "$(id -u)" -eq 0 ] || { echo "run.sh: python3 -m venv fails: install python3-venv" >&2; exit 1; }
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -yqq python3-venv >/dev/null
        python3 -m venv --clear "$venv"
    fi
    "$venv/bin/pip" install -q --disable-pip-version-check --no-input --root-user-action=ignore -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed"
fi

cd "$here"
exec "$venv/bin/python" -B -m pytest -q -p no:cacheprovider "$@"
