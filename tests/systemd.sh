#!/usr/bin/env bash
# The units, checked by systemd's own tools, and run: tests/systemd.sh path/to/weir
#
# 1. systemd-analyze finds nothing wrong with them, and gives the service a low exposure.
# 2. What the daemon tells systemd, in order; the certificate's hash is where the unit says.
# 3. A configuration that is wrong exits 78, which the unit does not try again. The modes of keys.
# 4. Sockets that are handed over, to two daemons one after the other.
# 5. A systemd of its own, in namespaces of its own, runs the units with all their restrictions. Clients
#    publish and read through them, also while the daemon is replaced. Needs root, and a kernel that lets
#    it; else skipped.
set -euo pipefail

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/systemd.sh path/to/weir" >&2
    exit 2
fi
weir=$(realpath "$1")
units=$(realpath "$(dirname "$0")/../systemd")
tests=$(realpath "$(dirname "$0")/systemd")
. "$tests/group.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SYSTEMD_EMOJI=0

fail() { echo "FAILED: $*" >&2; exit 1; }

if ! command -v systemd-analyze >/dev/null; then
    [ "$(id -u)" -eq 0 ] || fail "systemd-analyze is missing: install the package systemd"
    echo "installing systemd"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd >/dev/null
fi

echo "1. systemd-analyze"
mkdir "$work/unit"
sed "s|/usr/bin/weir|$weir|" "$units/weir.service" >"$work/unit/weir.service"
cp "$units"/*.socket "$work/unit/"
grep -q "^ExecStart=$weir serve " "$work/unit/weir.service" || fail "ExecStart is not /usr/bin/weir"
said=$(systemd-analyze verify "$work"/unit/* 2>&1) || fail "verify: $said"
[ -z "$said" ] || fail "verify: $said"
echo "   verify: nothing to say"
# exposure MOST UNIT: in tenths; 0 is best, 100 is worst.
exposure() {
    said=$(systemd-analyze security --offline=true --no-pager --threshold="$1" "$2") ||
        fail "the exposure of $2 is above $1: $said"
    echo "   security of $(basename "$2"): ${said##*→ }"
}
# The network, which a relay needs, is most of what is left. README.md beside the unit has the rest.
exposure 11 "$work/unit/weir.service"
cat "$work/unit/weir.service" "$units/sealed.conf" >"$work/unit/sealed.service"
exposure 4 "$work/unit/sealed.service"

echo "2. notifications and the runtime directory"
mkdir -m 0700 "$work/state"
mkdir -m 0755 "$work/runtime"
python3 "$tests/notify.py" "$weir" "$work"

echo "3. exit codes"
printf '[cache]\nbyts = 1\n' >"$work/wrong.toml"
code=0
said=$("$weir" serve --config "$work/wrong.toml" --listen 127.0.0.1:0 --state "$work/state" 2>&1) || code=$?
[ "$code" -eq 78 ] || fail "a wrong configuration exits $code"
grep -q '^RestartPreventExitStatus=.*\b78\b' "$units/weir.service" || fail "the unit restarts after 78"
echo "   78: ${said#*"$work"/}"

# A credential whose owner is somebody else, and whose mode shows the mask of its access control list.
if [ "$(id -u)" -eq 0 ]; then
    mkdir "$work/credentials"
    "$weir" cert new --names localhost --out "$work/credentials" >/dev/null
    chown 65532 "$work/credentials/key.pem"
    chmod 0440 "$work/credentials/key.pem"
    for directory in "" "$work/credentials"; do
        code=0
        said=$(CREDENTIALS_DIRECTORY=$directory WEIR_TLS__CERTIFICATE=$work/credentials/certificate.pem \
            WEIR_TLS__KEY=$work/credentials/key.pem timeout 3 \
            "$weir" serve --listen 127.0.0.1:0 --http off --state "$work/state" 2>&1) || code=$?
        case $directory in
            "") [ "$code" -eq 78 ] && grep -q 'mode is 0440' <<<"$said" || fail "a key that a group can read: $code $said" ;;
            # It drains when the time is over.
            *) [ "$code" -eq 124 ] && grep -q 'listens on' <<<"$said" || fail "a credential: $code $said" ;;
        esac
    done
    echo "   a key that a group can read is refused, and a credential of that mode is not"
fi

echo "4. sockets that are handed over"
python3 "$tests/handed_over.py" "$weir" "$work"

echo "5. in a systemd of its own"
if [ "$(id -u)" -ne 0 ] || [ ! -x /lib/systemd/systemd ]; then
    echo "   skipped: needs root and systemd"
elif ! has_namespaces; then
    echo "   skipped: this machine does not let root make the namespaces"
else
    in_group timeout -s KILL 240 unshare -mpnC --fork --kill-child --mount-proc \
        bash "$tests/inside.sh" "$weir" "$units" "$tests" || fail "the units do not run under systemd"
fi
echo "systemd: all as it should be"
