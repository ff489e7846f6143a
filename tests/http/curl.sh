#!/usr/bin/env bash
# The HTTP face as curl sees it, over plain HTTP/1.1 and over TLS with HTTP/2:
# tests/http/curl.sh path/to/weir
set -euo pipefail

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/http/curl.sh path/to/weir" >&2
    exit 2
fi
weir=$(realpath "$1")
if ! command -v curl >/dev/null; then
    [ "$(id -u)" -eq 0 ] || { echo "missing: curl" >&2; exit 1; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends curl >/dev/null
fi
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
field() { sed -n "s/.*\"$1\":\"\\{0,1\\}\\([^\",}]*\\).*/\\1/p"; }

# serve NAME [ENV…]: sets plain, tls and server.
serve() {
    local ready
    mkfifo "$work/$1"
    env XDG_STATE_HOME="$work/$1.state" "${@:2}" \
        "$weir" serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --json >"$work/$1" &
    pids+=($!)
    read -r ready <"$work/$1"
    server=$(field listen <<<"$ready")
    plain=http://$(field http <<<"$ready")
    tls=https://$server
}

# status EXPECTED CURL…: the body goes to $work/body, the head to $work/head.
status() {
    local expected=$1 got
    shift
    : >"$work/body"
    got=$(curl -ksS --max-time 60 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@") || true
    [ "$got" = "$expected" ] || fail "$got instead of $expected: curl $*: $(head -c 400 "$work/body")"
}
header() { grep -i "^$1:" "$work/head" | tail -1 | sed 's/^[^:]*: *//' | tr -d '\r'; }

serve first
python3 - "$work" <<'PYTHON'
import random, sys
folder = sys.argv[1]
open(folder + "/all", "wb").write(bytes(range(256)))
open(folder + "/empty", "wb").close()
open(folder + "/most", "wb").write(random.Random(1).randbytes(16 << 20))
open(folder + "/more", "wb").write(bytes((16 << 20) + 1))
PYTHON

for base in "$plain" "$tls"; do
    version=$(curl -ksS -o /dev/null -w '%{http_version}' "$base/certificate.sha256")
    echo "1. $base, HTTP/$version: bytes in, the same bytes out"
    for payload in all empty most; do
        status 200 --data-binary @"$work/$payload" "$base/v1/topics/bytes%2F$payload"
        digest=$(field digest <"$work/body")
        status 200 "$base/v1/topics/bytes/$payload"
        cmp "$work/body" "$work/$payload" || fail "other bytes"
        [ "$(header etag)" = "\"$digest\"" ] || fail "another tag"
        [ "$(header content-type)" = application/octet-stream ] || fail "another type"
        status 304 -H "If-None-Match: \"$digest\"" "$base/v1/topics/bytes/$payload"
        [ ! -s "$work/body" ] || fail "a body with 304"
        status 200 -I "$base/v1/topics/bytes/$payload"
        [ "$(header content-length)" = "$(stat -c %s "$work/$payload")" ] || fail "another length"
    done

    echo "2. refusals"
    status 413 --data-binary @"$work/more" "$base/v1/topics/bytes"
    grep -q limits.payload "$work/body" || fail "which limit?"
    status 413 -H Expect: --data-binary @"$work/more" "$base/v1/topics/bytes"
    status 413 -H Expect: -H "Transfer-Encoding: chunked" --data-binary @"$work/more" "$base/v1/topics/b"
    status 400 -d x "$base/v1/topics/a//b"
    status 400 -d x "$base/v1/topics/%ff"
    status 400 "$base/v1/topics/a?form=1"
    status 403 -d x "$base/v1/topics/%24weir%2Fx"
    status 404 "$base/v1/topics/nothing"
    status 405 -X DELETE "$base/v1/topics/a"
    [ -n "$(header allow)" ] || fail "405 without Allow"
    status 403 -H "Origin: https://evil.example" "$base/v1/topics/a"
    status 421 -H "Host: evil.example" "$base/v1/topics/a"
    grep -q http.names "$work/body" || fail "which names?"
    status 403 -H "Origin: https://evil.example" "$base/certificate.sha256"
    [ "$(header access-control-allow-origin)" = "*" ] || fail "a refusal that no page can read"
    status 415 -H "Content-Encoding: gzip" --data-binary @"$work/all" "$base/v1/topics/a"
    [ "$(header accept-encoding)" = identity ] || fail "415 without Accept-Encoding"
    status 400 -d x "$base/v1/topics/a%2F..%2Fb"
    [ "$(header content-type)" = application/problem+json ] || fail "a refusal that is no problem"
done

echo "3. a key publishes once, also when eight try at once"
for n in $(seq 8); do
    curl -sS -H 'Idempotency-Key: "k"' -d hello "$plain/v1/topics/once" >"$work/once.$n" &
    tries[n]=$!
done
wait "${tries[@]}"
[ "$(cat "$work"/once.* | grep -o '"duplicate":false' | wc -l)" = 1 ] || fail "not once"
status 422 -H 'Idempotency-Key: "k"' -d other "$plain/v1/topics/once"
status 200 -d hello "$plain/v1/topics/once"
[ "$(field count <"$work/body")" = 2 ] || fail "counted more than once"

echo "4. events, over HTTP/1.1 and HTTP/2 by turns, resumed while somebody publishes"
(for n in $(seq 300); do echo "$n"; sleep 0.002; done) |
    env XDG_STATE_HOME="$work/first.state" "$weir" pub live/a --lines --server "$server" >/dev/null &
publisher=$!
pids+=($publisher)
id=
: >"$work/seen"
while :; do
    # curl leaves after a while, in the middle of whatever there is; then over the other one.
    base=$([ $((${parts:-0} % 2)) = 0 ] && echo "$plain" || echo "$tls")
    curl -ksSN --max-time 0.15 ${id:+-H "Last-Event-ID: $id"} "$base/v1/events/live%2F*?from=all" \
        >"$work/part" 2>/dev/null || true
    # What is whole: up to the last empty line.
    python3 - "$work" <<'PYTHON'
import json, sys
folder = sys.argv[1]
blocks = open(folder + "/part", "rb").read().split(b"\n\n")[:-1]
with open(folder + "/seen", "a") as seen:
    for block in blocks:
        lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
        if b"data" in lines:
            assert lines[b"event"] == b"message", block
            seen.write("%d\n" % json.loads(lines[b"data"])["sequence"])
        if b"id" in lines:
            open(folder + "/id", "w").write(lines[b"id"].decode())
PYTHON
    id=$(cat "$work/id" 2>/dev/null || true)
    [ "$(wc -l <"$work/seen")" -lt 300 ] || break
    parts=$((${parts:-0} + 1))
    [ "$parts" -lt 100 ] || fail "$(wc -l <"$work/seen") of 300 after $parts connections"
done
wait "$publisher"
seq 300 | cmp - "$work/seen" || fail "missed, repeated, or out of order"
echo "   300 messages over $((parts + 1)) connections"

echo "5. a gap, as an event, where the cache is small"
serve small WEIR_CACHE__BYTES=1MiB WEIR_LIMITS__PAYLOAD=256KiB
for n in $(seq 20); do
    head -c 100000 /dev/urandom | status 200 --data-binary @- "$plain/v1/topics/g"
done
curl -sSN --max-time 0.5 "$plain/v1/events/g?from=1" >"$work/part" 2>/dev/null || true
grep -m1 '^event:' "$work/part" | grep -qx 'event: gap' || fail "no gap"
last=$(grep -m1 '"event":"gap"' "$work/part" | field last)
next=$(grep '^data:' "$work/part" | sed -n '2{s/,"count".*/}/;p}' | field sequence)
[ "$next" = $((last + 1)) ] || fail "gap to $last, then $next"
status 410 "$plain/v1/topics/g?sequence=1"
echo "passed"
