#!/usr/bin/env bash
# Measures the command against tshark and scapy, where they are installed, and prints Markdown tables. Options are those
# of compare.py: --packets N, --runs N, --large. Needs python3 with the package `cryptography`.
set -euo pipefail
cd "$(dirname "$0")/.."

python=python3
[ ! -x target/venv/bin/python ] || python=target/venv/bin/python
"$python" -c 'import cryptography' 2>/dev/null || {
    echo "benches/compare.sh: missing: the Python package cryptography (tests/run.sh sets it up in target/venv)" >&2
    exit 1
}
cargo build --release --locked --quiet
exec "$python" benches/compare.py "$@"
