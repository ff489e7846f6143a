# Sourced by the scripts that need programs which a new machine does not have.

# need COMMAND PACKAGE…: remembers Debian packages whose command is missing.
missing=()
need() { command -v "$1" >/dev/null || missing+=("${@:2}"); }

# Installs what is missing. Only root can.
install_needed() {
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing, and only root can install it: ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# cargo_tool NAME VERSION: prints where a cargo command is. Without it, it is built once into
# TARGET_DIR/tools. That is not optimised, and has none of its optional parts.
cargo_tool() {
    local name=$1 version=$2 tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
    if command -v "$name"; then return; fi
    if [ ! -x "$tools/bin/$name" ]; then
        cargo install --quiet --debug --locked --no-default-features --root "$tools" --target-dir "$tools/build" \
            --version "=$version" "$name" >&2
        rm -rf "$tools/build"
    fi
    echo "$tools/bin/$name"
}
