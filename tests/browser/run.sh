#!/usr/bin/env bash
# The page and weir.js in real browsers against a real daemon:
#
#   tests/browser/run.sh path/to/weir                   all of it
#   tests/browser/run.sh path/to/weir page.test.mjs …   these files of it
#
# The browsers are Debian's Chromium and Debian's Firefox (ESR), headless. Debian packages that are
# missing are installed when run as root, and named otherwise. WEIR_BROWSERS=firefox runs one browser
# only, WEIR_WEB=dir takes weir.js from elsewhere.
set -euo pipefail
if [ $# -lt 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/browser/run.sh path/to/weir [file.test.mjs …]" >&2
    exit 2
fi
WEIR_BIN=$(realpath "$1")
export WEIR_BIN
shift
cd "$(dirname "$0")"

. ../tools.sh
need chromium chromium
need firefox-esr firefox-esr
need certutil libnss3-tools
need openssl openssl
need /usr/sbin/nginx nginx-light
need caddy caddy
[ -n "$(find /usr/share/fonts -name '*.ttf' -print -quit 2>/dev/null)" ] || missing+=(fonts-dejavu-core)
if ! node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null; then
    missing+=(nodejs npm)
fi
need npm npm
install_needed

# Made anew where it is missing or half made, or where the lock file has changed.
if ! cmp -s package-lock.json node_modules/installed; then
    timeout 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/installed
fi

work=$(mktemp -d /tmp/weir-browser.XXXXXX)
code=0 beside=''
# Every process that the tests start stands in a list, with the time it began.
cleanup() {
    local pid began now
    [ -z "$beside" ] || kill "$beside" 2>/dev/null || true
    while read -r pid began; do
        now=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 20) || true
        if [ "$now" = "$began" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    done < <(cat "$work/pids" 2>/dev/null)
    # What was killed may still be writing.
    rm -rf "$work" 2>/dev/null || { sleep 1; rm -rf "$work"; }
}
trap cleanup EXIT
trap 'exit 130' INT TERM
mkdir "$work/home" "$work/tmp"

chromium --version 2>/dev/null
firefox-esr --version 2>/dev/null
run() {
    env HOME="$work/home" TMPDIR="$work/tmp" WEIR_BROWSER_PIDS="$work/pids" \
        timeout --foreground --kill-after=15 "${WEIR_BROWSER_LIMIT:-900}" \
        node --test --test-concurrency=1 --test-reporter=spec "$@"
}
if [ $# -eq 0 ]; then
    set -- $(ls ./*.test.mjs | grep -v '^./proxies')
    # It waits for more than a minute for what proxies do to a silent side, and needs no core meanwhile.
    run ./proxies.test.mjs >"$work/beside" 2>&1 &
    beside=$!
fi
run "$@" || code=$?
if [ -n "$beside" ]; then
    wait "$beside" || code=$?
    beside=''
    cat "$work/beside"
fi
[ "$code" -ne 124 ] && [ "$code" -ne 137 ] || echo "FAILED: not done in time" >&2
exit "$code"
