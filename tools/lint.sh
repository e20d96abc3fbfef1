#!/usr/bin/env bash
# Checks the C++ code with clang-format and clang-tidy; `fix` formats it in place.
#
#   tools/lint.sh format
#   tools/lint.sh tidy [BUILD_DIRECTORY]   where to keep the compile database; build/tidy if not said
#   tools/lint.sh fix
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,7s/^# \{0,1\}//p' tools/lint.sh >&2
  exit 2
}

sources() {
  find src modules tests bench -name node_modules -prune -o \( -name '*.cc' -o -name '*.h' \) -print0
}

format() {
  if ! sources | xargs -0 clang-format-19 --style=file "$@"; then
    echo "lint: run tools/lint.sh fix" >&2
    exit 1
  fi
}

# A build tree of its own: clang can't read GCC's precompiled headers, nor look behind ccache.
configure() {
  local log
  if ! log=$(cmake -G Ninja -S . -B "$1" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=clang++-19 \
      -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DCCACHE_PROGRAM= -DYOKE_BUILD_TESTS=OFF 2>&1); then
    echo "$log" >&2
    exit 1
  fi
}

case "${1:-}" in
  format) format --dry-run --Werror ;;
  fix) format -i ;;
  tidy)
    build=${2:-build/tidy}
    configure "$build"
    python3 tools/tidy.py "$build/compile_commands.json"
    ;;
  *) usage ;;
esac
