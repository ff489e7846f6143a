#!/usr/bin/env bash
# The Debian package: tests/package.sh path/to/weir
#
# 1. The package is built from this binary. That of a release has another one: systemd/package.
# 2. It has what it should have, with the right modes.
# 3. As root: in a Debian of its own, with a systemd of its own, it is installed, started, upgraded under
#    traffic, removed and purged.
# 4. The daemon as process 1, as in a container: it ends on TERM.
#
# Debian packages that are missing are installed when run as root, and named otherwise. Without cargo-deb,
# it is built once into TARGET_DIR/tools.
set -euo pipefail
if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/package.sh path/to/weir" >&2
    exit 2
fi
weir=$(realpath "$1")
cd "$(dirname "$0")/.."
tests=$PWD/tests
. "$tests/systemd/group.sh"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

. "$tests/tools.sh"
need dpkg-shlibdeps dpkg-dev
need mmdebstrap mmdebstrap
need xz xz-utils
need strip binutils
need ps procps
install_needed
CARGO_DEB=$(cargo_tool cargo-deb 3.8.0)
export CARGO_DEB

echo "1. build"
# Its own directory: what it packages is not a release.
export CARGO_TARGET_DIR=$work/target
strip -o "$work/weir" "$weir"
systemd/package deb --binary "$work/weir" >"$work/build.log" 2>&1 || fail "$(cat "$work/build.log")"
mv "$work"/target/debian/*.deb "$work/old.deb"
# The next version has the same content.
dpkg-deb -R "$work/old.deb" "$work/new"
sed -i 's/^Version: .*/Version: 999-1/' "$work/new/DEBIAN/control"
dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/new" "$work/new.deb" >/dev/null
rm -r "$work/new" "$work/target"
echo "   $(dpkg-deb -f "$work/old.deb" Package Version Architecture Depends | tr '\n' ' ')"

echo "2. what is in it"
dpkg-deb -c "$work/old.deb" | awk '{ print $1, $2, $NF }' >"$work/content"
for file in "-rwxr-xr-x 0/0 ./usr/bin/weir" "-rw-r--r-- 0/0 ./etc/weir/weir.toml" \
    "-rw-r--r-- 0/0 ./usr/lib/sysctl.d/90-weir.conf" "-rw-r--r-- 0/0 ./usr/lib/systemd/system/weir.service" \
    "-rw-r--r-- 0/0 ./usr/lib/systemd/system/weir.socket" "-rw-r--r-- 0/0 ./usr/lib/systemd/system/weir-http.socket"; do
    grep -qxF -- "$file" "$work/content" || fail "not in the package: $file"
done
[ "$(grep -c /systemd/system/. "$work/content")" -eq 3 ] || fail "other units: $(grep /systemd/ "$work/content")"
[ "$(dpkg-deb --ctrl-tarfile "$work/old.deb" | tar -xO ./conffiles)" = /etc/weir/weir.toml ] || fail "the conffiles"
for script in postinst prerm postrm; do
    dpkg-deb --ctrl-tarfile "$work/old.deb" | tar -xO "./$script" >"$work/$script"
    sh -n "$work/$script" || fail "$script"
done
echo "   $(wc -l <"$work/content") files and directories, one conffile, three scripts"
if command -v lintian >/dev/null; then
    # Of this binary: it is not of a release, and has no hardening of a Debian build.
    lintian --fail-on error --suppress-tags bad-distribution-in-changes-file "$work/old.deb" || fail "lintian"
    echo "   lintian: no errors"
else
    echo "   lintian: NOT run, because it is not installed"
fi

echo "3. in a Debian of its own"
if [ "$(id -u)" -ne 0 ]; then
    echo "   skipped: needs root"
elif ! has_namespaces; then
    echo "   skipped: this machine does not let root make the namespaces"
else
    suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    mmdebstrap --quiet --variant=minbase --include=systemd,init-system-helpers "$suite" "$work/root" \
        >"$work/mmdebstrap.log" 2>&1 || fail "$(tail -20 "$work/mmdebstrap.log")"
    mkdir -p "$work/root/opt"
    cp "$work"/*.deb "$work/root/opt/"
    in_group timeout -s KILL 300 bash "$tests/package/life.sh" "$work" "$weir" "$tests" ||
        fail "the package in a Debian of its own"
fi

echo "4. as process 1"
mkdir -m 0700 "$work/state"
python3 -B - "$weir" "$work/state" <<'PYTHON'
import json, os, signal, subprocess, sys, time

weir, state = sys.argv[1:]
# A namespace in which it is process 1, and the kernel ignores the signals that it does not handle.
space = ["unshare"] + ([] if os.getuid() == 0 else ["-Ur"]) + ["-p", "--fork", "--kill-child"]
for name in (signal.SIGTERM, signal.SIGINT):
    outer = subprocess.Popen(
        [*space, weir, "serve", "--listen", "127.0.0.1:0", "--http", "off", "--state", state, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    try:
        json.loads(outer.stdout.readline())
        with open(f"/proc/{outer.pid}/task/{outer.pid}/children") as children:
            daemon = int(children.read())
        with open(f"/proc/{daemon}/status") as status:
            inner = [line.split()[-1] for line in status if line.startswith("NSpid:")]
        assert inner == ["1"], inner
        os.kill(daemon, name)
        code = outer.wait(timeout=20)
        assert code == 0, f"{name.name}: exit code {code}"
        print(f"   {name.name}: exit code 0")
    finally:
        outer.kill()
PYTHON
echo "package: all as it should be"
