#!/usr/bin/env bash
# Builds Yoke, the fake engine and the reader, and measures what the gateway adds to each chunk.
# Arguments go to relay_bench.py: `bench/run.sh --streams 256 --rounds 10`.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset bench -Wno-dev >/dev/null
cmake --build --preset bench --target yoke fake_engine relay_bench
exec python3 bench/relay_bench.py build/bench "$@"
