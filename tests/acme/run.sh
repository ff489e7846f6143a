#!/usr/bin/env bash
# Certificates over ACME, from Debian's test authority:
#
#   tests/acme/run.sh path/to/weir
#
# Debian packages that are missing are installed when run as root, and named otherwise.
set -euo pipefail
if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/acme/run.sh path/to/weir" >&2
    exit 2
fi
weir=$(realpath "$1")
cd "$(dirname "$0")"

. ../tools.sh
need pebble pebble
need pebble-challtestsrv pebble
need python3 python3
need openssl openssl
install_needed
exec timeout --kill-after=15 300 python3 -B acme.py "$weir"
