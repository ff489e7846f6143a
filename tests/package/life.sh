# The life of the package in a Debian root that has been booted: life.sh WORK WEIR TESTS
#
# WORK/root is the root, WORK/old.deb and WORK/new.deb are the packages. It runs outside of the root, and
# `inside` runs a command in it.
set -euo pipefail
work=$1 weir=$2 tests=$3

root=$work/root
. "$tests/package/booted.sh"
fail() {
    echo "FAILED: $*" >&2
    inside systemctl status --no-pager weir.service weir.socket weir-http.socket >&2 || true
    inside journalctl --no-pager -u weir.service 2>/dev/null | tail -20 >&2 || true
    exit 1
}
until_true() {
    for _ in $(seq 200); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "in vain: $*"
}
show() { inside systemctl show weir.service --property "$1" --value; }
nobody() { inside runuser -u nobody -- env -i PATH=/usr/bin HOME=/nonexistent "$@"; }
files() { (cd "$work/root" && find . -xdev \( -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache -o -path ./root \) -prune -o -print | sort); }

until_true inside systemctl is-active basic.target
# What a machine has before the package: links that systemctl makes at its first call are no trace of it.
files >"$work/before"

inside dpkg -i /opt/old.deb >"$work/dpkg.log" 2>&1 || fail "$(cat "$work/dpkg.log")"
[ "$(inside systemctl is-enabled weir.service || true)" = disabled ] || fail "it is enabled"
[ "$(show ActiveState)" = inactive ] || fail "it was started"
inside weir check-config /etc/weir/weir.toml >/dev/null
for file in man/man1/weir-serve.1.gz bash-completion/completions/weir zsh/vendor-completions/_weir \
    fish/vendor_completions.d/weir.fish doc/weir/copyright doc/weir/changelog.Debian.gz; do
    [ -s "$work/root/usr/share/$file" ] || fail "$file is missing"
done
echo "   installed: nothing runs"

inside systemctl enable --now weir.service 2>/dev/null
[ "$(show ActiveState)" = active ] || fail "it does not run"
nobody weir pub demo/a before >/dev/null || fail "another user cannot publish"
[ "$(nobody weir get demo/a)" = before ] || fail "nothing was published"
[ "$(stat -c %a "$work/root/var/lib/private/weir")" = 700 ] || fail "the state is open to others"
inside systemctl reload weir.service
until_true inside systemctl is-active weir.service
echo "   started, as user $(show UID), which exists while it runs: $(show StatusText)"

echo '# A comment of the operator.' >>"$work/root/etc/weir/weir.toml"
inside systemctl stop weir.service
inside systemctl enable --now weir.socket weir-http.socket 2>/dev/null
inside systemctl start weir.service
mkdir -p "$work/hash"
inside cat /run/weir/certificate.sha256 >"$work/hash/certificate.sha256"
nsenter -t "$pid" -n python3 -B "$tests/systemd/traffic.py" "$weir" "$work/hash" \
    nsenter -t "$pid" -m -p -n -u -i -C -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive \
    dpkg -i /opt/new.deb >"$work/traffic.log" 2>&1 || fail "the upgrade: $(cat "$work/traffic.log")"
grep -E '^   ' "$work/traffic.log"
[ "$(inside dpkg-query -W -f '${Version}' weir)" = "$(dpkg-deb -f "$work/new.deb" Version)" ] || fail "it is the old one"
[ "$(nobody weir get demo/a)" = before ] || fail "the state is lost"
grep -q 'A comment of the operator' "$work/root/etc/weir/weir.toml" || fail "the configuration is lost"
[ "$(inside systemctl is-enabled weir.service weir.socket weir-http.socket | sort -u)" = enabled ] || fail "not enabled"
echo "   upgraded under traffic: state and configuration are kept"

# A key that only root can read.
inside weir cert new --names localhost --out /etc/weir/own >/dev/null
[ "$(stat -c '%a %u' "$work/root/etc/weir/own/key.pem")" = "600 0" ] || fail "the key"
mkdir -p "$work/root/etc/systemd/system/weir.service.d"
cat >"$work/root/etc/systemd/system/weir.service.d/credential.conf" <<'CONF'
[Service]
LoadCredential=key.pem:/etc/weir/own/key.pem
Environment=WEIR_TLS__CERTIFICATE=/etc/weir/own/certificate.pem WEIR_TLS__KEY=%d/key.pem
CONF
inside chmod 0755 /etc/weir/own
inside systemctl daemon-reload
inside systemctl restart weir.service || fail "it does not start with a credential"
[ "$(inside weir get demo/a --ca /etc/weir/own/certificate.pem)" = before ] || fail "no answer with a credential"
rm -r "$work/root/etc/systemd/system/weir.service.d"
echo "   a key that only root can read, by LoadCredential"

# The same daemon without any network but the sockets.
inside install -D -m 0644 /usr/share/doc/weir/examples/sealed.conf /etc/systemd/system/weir.service.d/sealed.conf
inside systemctl daemon-reload
inside systemctl restart weir.service || fail "it does not start without a network"
[ "$(nobody weir get demo/a)" = before ] || fail "no answer without a network"
rm -r "$work/root/etc/systemd/system/weir.service.d"
echo "   sealed.conf: no network but its sockets"

inside dpkg -r weir >/dev/null 2>&1
[ "$(inside systemctl is-active weir.service weir.socket weir-http.socket | sort -u)" = inactive ] || fail "it still runs"
[ -s "$work/root/etc/weir/weir.toml" ] && [ -d "$work/root/var/lib/private/weir/journal" ] || fail "state or configuration are gone"
[ ! -e "$work/root/usr/bin/weir" ] || fail "the binary is there"
echo "   removed: state and configuration are kept"

inside dpkg -i /opt/new.deb >/dev/null 2>&1
inside systemctl start weir.service
[ "$(nobody weir get demo/a)" = before ] || fail "the state is lost"
inside dpkg -P weir >/dev/null 2>&1
left=$(inside sh -c 'ls -d /run/weir /run/private/weir 2>/dev/null' || true)
[ -z "$left" ] || fail "left: $left"
files >"$work/after"
diff "$work/before" "$work/after" || fail "the purge leaves files"
echo "   purged: nothing is left"
