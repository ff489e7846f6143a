#!/usr/bin/env bash
# The unit file, checked by systemd's own tools, and run: tests/systemd.sh path/to/weir
#
# 1. systemd-analyze finds nothing wrong with it, and gives it a low exposure.
# 2. The daemon says READY=1 and STOPPING=1, and leaves the certificate's hash where the unit says.
# 3. A configuration that is wrong exits 78, which the unit does not try again.
# 4. A systemd of its own, in namespaces of its own, runs the unit with all its restrictions, and
#    clients publish and read through it. Needs root, and a kernel that lets it; else skipped.
set -euo pipefail

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/systemd.sh path/to/weir" >&2
    exit 2
fi
weir=$(realpath "$1")
units=$(realpath "$(dirname "$0")/../systemd")
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
grep -q "^ExecStart=$weir serve " "$work/unit/weir.service" || fail "ExecStart is not /usr/bin/weir"
said=$(systemd-analyze verify "$work/unit/weir.service" 2>&1) || fail "verify: $said"
[ -z "$said" ] || fail "verify: $said"
echo "   verify: nothing to say"
# Tenths: 0 is best, 100 is worst. The network, which a relay needs, is most of what is left.
said=$(systemd-analyze security --offline=true --no-pager --threshold=20 "$work/unit/weir.service") ||
    fail "the exposure is above 2.0: $said"
echo "   security: ${said##*→ }"

echo "2. notifications and the runtime directory"
mkdir -m 0700 "$work/state"
mkdir -m 0755 "$work/runtime"
python3 - "$weir" "$work" <<'PYTHON'
import os, signal, socket, subprocess, sys

weir, work = sys.argv[1:]
path = f"{work}/notify"
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
notify.settimeout(20)
environment = dict(
    os.environ, NOTIFY_SOCKET=path, STATE_DIRECTORY=f"{work}/state", RUNTIME_DIRECTORY=f"{work}/runtime"
)
os.umask(0o022)
daemon = subprocess.Popen(
    [weir, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], env=environment, stdout=subprocess.DEVNULL
)
try:
    def expect(wanted):
        while wanted not in (said := notify.recv(4096).decode().splitlines()):
            print("   heard:", *said)
        print("   heard:", *said)

    expect("READY=1")
    left = f"{work}/runtime/certificate.sha256"
    mode = os.stat(left).st_mode & 0o777
    assert mode == 0o644, f"{left} has mode {mode:o}"
    with open(left) as here, open(f"{work}/state/certificate.sha256") as there:
        assert here.read() == there.read(), "two different hashes"
    print("   the hash stands in the runtime directory, mode 644")
    # Ignored, and said in the log.
    daemon.send_signal(signal.SIGHUP)
    daemon.send_signal(signal.SIGTERM)
    expect("STOPPING=1")
    code = daemon.wait(timeout=10)
    assert code == 0, f"exit code {code} after TERM"
    print("   exit code 0 after TERM")
finally:
    daemon.kill()
PYTHON

echo "3. exit codes"
printf '[cache]\nbyts = 1\n' >"$work/wrong.toml"
code=0
said=$("$weir" serve --config "$work/wrong.toml" --listen 127.0.0.1:0 --state "$work/state" 2>&1) || code=$?
[ "$code" -eq 78 ] || fail "a wrong configuration exits $code"
grep -q '^RestartPreventExitStatus=.*\b78\b' "$units/weir.service" || fail "the unit restarts after 78"
echo "   78: ${said#*"$work"/}"

echo "4. in a systemd of its own"
cat >"$work/inside" <<'INSIDE'
set -euo pipefail
weir=$1 units=$2
# Everything below is seen from in here only, and gone with the namespaces.
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/run /mnt/home /mnt/units/weir.service.d
cp "$weir" /mnt/weir
cp "$units/weir.toml" /mnt/
cp "$units/weir.service" /mnt/units/
# Another place and a free port; a user's systemd has no dynamic users. The rest as shipped.
cat >/mnt/units/weir.service.d/test.conf <<'CONF'
[Service]
ExecStart=
ExecStart=/mnt/weir serve --config /mnt/weir.toml --listen 127.0.0.1:0 --http 127.0.0.1:0 --json
StandardOutput=file:/mnt/ready
StandardError=file:/mnt/log
DynamicUser=no
Restart=no
CONF
# What a booted system has.
mount -t tmpfs tmpfs /run/systemd
mkdir -p /run/systemd/system /run/systemd/inaccessible/dir
cd /run/systemd/inaccessible
: >reg
mkfifo fifo
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
mknod chr c 0 0
mknod blk b 0 0
chmod 0 ./*
cd /
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup

export HOME=/mnt/home XDG_RUNTIME_DIR=/mnt/run SYSTEMD_UNIT_PATH=/mnt/units:
unset XDG_CONFIG_HOME XDG_STATE_HOME NOTIFY_SOCKET
/lib/systemd/systemd --user --unit=weir.service >/mnt/systemd 2>&1 &
show() { systemctl --user show weir.service --property "$1" --value; }
for _ in $(seq 100); do
    state=$(show ActiveState 2>/dev/null || true)
    case $state in active | failed) break ;; esac
    sleep 0.1
done
if [ "$state" != active ]; then
    systemctl --user status --no-pager weir.service || true
    cat /mnt/log /mnt/systemd
    exit 1
fi
echo "   active, with $(awk '/^(NoNewPrivs|CapBnd|Seccomp):/ { printf "%s %s ", $1, $2 }' "/proc/$(show MainPID)/status")"
server=$(python3 -c 'import json; print(json.load(open("/mnt/ready"))["listen"])')
for transport in quic webtransport websocket; do
    set -- --server "$server" --state /mnt/run/weir --transport "$transport"
    /mnt/weir pub demo/unit hello "$@" >/dev/null
    [ "$(/mnt/weir get demo/unit "$@")" = hello ]
    echo "   published and read over $transport"
done
systemctl --user stop weir.service
[ "$(show Result) $(show ExecMainStatus)" = "success 0" ]
echo "   stopped: success"
grep -iE ' (WARN|ERROR) ' /mnt/log || true
INSIDE
if [ "$(id -u)" -ne 0 ] || [ ! -x /lib/systemd/systemd ]; then
    echo "   skipped: needs root and systemd"
elif ! unshare -mpC --fork --mount-proc sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 c /sys/fs/cgroup' 2>/dev/null; then
    echo "   skipped: this machine does not let root make the namespaces"
else
    # A control group of its own, so that nothing is left behind in anyone else's.
    group() {
        unshare -m sh -c "umount -R /sys/fs/cgroup; mount -t cgroup2 c /sys/fs/cgroup; cd /sys/fs/cgroup$1; $2"
    }
    mine=$(sed -n 's/^0:://p' /proc/self/cgroup)
    name="weir-test-$$"
    group "$mine" "mkdir $name"
    code=0
    (
        group "$mine" "echo $BASHPID >$name/cgroup.procs" &&
            exec timeout 60 unshare -mpC --fork --kill-child --mount-proc bash "$work/inside" "$weir" "$units"
    ) || code=$?
    group "$mine" "find $name -depth -type d -exec rmdir {} +" || true
    [ "$code" -eq 0 ] || fail "the unit does not run under systemd"
fi
echo "systemd: all as it should be"
