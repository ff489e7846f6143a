# Runs in namespaces of its own, with a systemd of its own: inside.sh path/to/weir UNITS TESTS
# Everything below is seen from in here only, and gone with the namespaces.
set -euo pipefail
weir=$1 units=$2 tests=$3
ip link set lo up
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/run /mnt/home /mnt/units/weir.service.d
cp "$weir" /mnt/weir
cp "$units/weir.toml" /mnt/
cp "$units"/weir.service "$units"/*.socket /mnt/units/
# Another place; a user's systemd has no dynamic users. The rest as shipped.
cat >/mnt/units/weir.service.d/test.conf <<'CONF'
[Service]
ExecStart=
ExecStart=/mnt/weir serve --config /mnt/weir.toml --json
StandardOutput=append:/mnt/ready
StandardError=append:/mnt/log
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
show() { systemctl --user show weir.service --property "$1" --value; }
fail() {
    echo "FAILED: $*" >&2
    systemctl --user status --no-pager weir.service weir.socket weir-http.socket >&2 || true
    cat /mnt/log /mnt/systemd >&2
    exit 1
}
# until COMMAND…: waits until it succeeds, for 20 s at most.
until_true() {
    for _ in $(seq 200); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.1
    done
    fail "in vain: $*"
}
is() { [ "$(show "$1")" = "$2" ]; }
# The daemon is found by the hash in its runtime directory, and while none runs, by a copy.
use=(--server localhost:4433 --state /mnt/run/weir)
later=(--server localhost:4433 --state /mnt/hash)

/lib/systemd/systemd --user --unit=weir.service >/mnt/systemd 2>&1 &
until_true is ActiveState active
echo "   active, with $(awk '/^(NoNewPrivs|CapBnd|Seccomp):/ { printf "%s %s ", $1, $2 }' "/proc/$(show MainPID)/status")"
for transport in quic webtransport websocket; do
    /mnt/weir pub demo/unit hello "${use[@]}" --transport "$transport" >/dev/null
    [ "$(/mnt/weir get demo/unit "${use[@]}" --transport "$transport")" = hello ] || fail "$transport"
    echo "   published and read over $transport"
done
mkdir /mnt/hash
cp /mnt/run/weir/certificate.sha256 /mnt/hash/
systemctl --user reload weir.service
until_true grep -q HUP /mnt/log
until_true is ActiveState active
echo "   reloaded"
systemctl --user stop weir.service
[ "$(show Result) $(show ExecMainStatus)" = "success 0" ] || fail "it stops with $(show Result)"
echo "   stopped: success"

# The port is the manager's. The first packet starts the daemon.
systemctl --user start weir.socket weir-http.socket
[ "$(show ActiveState)" = inactive ] || fail "it runs"
[ "$(/mnt/weir get demo/unit "${later[@]}")" = hello ] || fail "no answer"
echo "   started by a packet"
# While a daemon replaces it, nothing is refused and nothing is missed.
python3 "$tests/traffic.py" /mnt/weir /mnt/hash systemctl --user restart weir.service ||
    fail "the restart"
[ "$(show NRestarts) $(show ActiveState)" = "0 active" ] || fail "it did not run through"

# Without any network but these sockets.
systemctl --user stop weir.service
systemctl --user stop weir.socket weir-http.socket
cp "$units/sealed.conf" /mnt/units/weir.service.d/
systemctl --user daemon-reload
systemctl --user start weir.service
python3 "$tests/traffic.py" /mnt/weir /mnt/hash systemctl --user restart weir.service ||
    fail "the restart of a daemon without a network"
main=$(show MainPID)
[ "$(readlink "/proc/$main/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail "it has a network"
echo "   the same with sealed.conf: the daemon has no network but these sockets"

# A daemon that hangs is killed. It cannot answer while it is stopped.
printf '[Service]\nWatchdogSec=1s\n' >/mnt/units/weir.service.d/watchdog.conf
systemctl --user daemon-reload
systemctl --user restart weir.service || fail "it does not start"
kill -STOP "$(show MainPID)"
until_true is Result watchdog
echo "   a daemon that hangs: $(show Result)"
systemctl --user stop weir.socket weir-http.socket weir.service
grep -iE ' (WARN|ERROR) ' /mnt/log | sort | uniq -c | sort -rn | head -5 || true
