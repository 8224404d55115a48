#!/usr/bin/env bash
# Sets up what the tests need on a Debian-like machine with Rust, then runs all checks. Says little unless something fails.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target

fail() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

# Runs a command; shows its output only if it fails.
quietly() {
    local log=target/run-sh.log
    "$@" >"$log" 2>&1 </dev/null || {
        cat "$log" >&2
        fail "failed: $*"
    }
}

install_packages() {
    local root=()
    command -v apt-get >/dev/null || fail "missing: $*. This is no Debian-like machine: please install them."
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "missing: $*. Please run: sudo apt-get install $*"
        root=(sudo -n)
    fi
    echo "installing $*"
    # tshark asks whether others than root may capture; the tests only read files.
    if command -v debconf-set-selections >/dev/null; then
        echo "wireshark-common wireshark-common/install-setuid boolean false" | "${root[@]}" debconf-set-selections || true
    fi
    quietly "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q
    quietly "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

set_up() {
    local missing=() tool
    command -v cargo >/dev/null || fail "missing: Rust, see https://rustup.rs"
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null 2>&1 && continue
        command -v rustup >/dev/null || fail "missing: cargo $tool"
        quietly rustup component add "${tool/fmt/rustfmt}"
    done
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    # editcap comes with tshark.
    for tool in tshark jq gzip zstd; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    command -v editcap >/dev/null || missing+=(wireshark-common)
    # Without python3-venv there is a module venv, but no ensurepip.
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"

    # A virtual environment, since the system's Python may be closed to pip (PEP 668); packages that the system has are used.
    if ! cmp -s tests/requirements.txt target/venv/requirements.txt || ! target/venv/bin/python -c '' 2>/dev/null; then
        rm -rf target/venv
        quietly python3 -m venv --system-site-packages target/venv
        quietly target/venv/bin/pip install --disable-pip-version-check -r tests/requirements.txt
        cp tests/requirements.txt target/venv/requirements.txt
    fi
}

set_up
export DIETESP_PYTHON="$PWD/target/venv/bin/python"
export DIETESP_MEMORY=50000,500000
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"

cargo fmt --check
quietly cargo clippy --locked --all-targets -- -D warnings
cargo test --locked --no-fail-fast
