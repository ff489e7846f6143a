# Boots the Debian root of a test, and gives `inside`, which runs a command in it. To be sourced, with `root`,
# its directory, and `tests`. It ends with the script that sources it.

unshare -mpnuiC --fork --kill-child bash "$tests/package/boot.sh" "$root" &
outer=$!
trap 'kill -KILL "$outer" 2>/dev/null || true' EXIT
for _ in $(seq 100); do
    pid=$(ps --ppid "$outer" -o pid= | tr -d ' ')
    if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/exe")" = /usr/lib/systemd/systemd ]; then break; fi
    sleep 0.1
done
inside() {
    nsenter -t "$pid" -m -p -n -u -i -C -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"
}
