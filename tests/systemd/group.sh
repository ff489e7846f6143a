# A control group of its own for a command, so that nothing is left behind in anyone else's. To be sourced.

# in_group COMMAND…: runs the command in a new group, and returns its exit code.
in_group() {
    local mine name=weir-test-$BASHPID code=0
    mine=$(sed -n 's/^0:://p' /proc/self/cgroup)
    cgroup "$mine" "mkdir $name"
    (
        cgroup "$mine" "echo $BASHPID >$name/cgroup.procs" && exec "$@"
    ) || code=$?
    # The last processes may be ending.
    for _ in $(seq 50); do
        if cgroup "$mine" "find $name -depth -type d -exec rmdir {} +" 2>/dev/null; then break; fi
        sleep 0.1
    done
    return "$code"
}

# cgroup PATH COMMAND: runs a command of the shell in a directory of the hierarchy.
cgroup() {
    unshare -m sh -c "umount -R /sys/fs/cgroup; mount -t cgroup2 c /sys/fs/cgroup; cd /sys/fs/cgroup$1; $2"
}

# Whether this machine lets root make the namespaces.
has_namespaces() {
    unshare -mpnuiC --fork --mount-proc sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 c /sys/fs/cgroup' 2>/dev/null
}
