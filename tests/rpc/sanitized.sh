#!/usr/bin/env bash
# The tests of the RPC client with its module built with a sanitizer, in a llama-server without.
#
#   tests/rpc/sanitized.sh address|thread [BUILD_DIRECTORY]     build/rpc-SANITIZER if not said
#
# address has undefined behaviour and leaks with it, of all of llama-server. Code without
# instrumentation calls malloc, memcpy and pthreads through the sanitizer too; what the thread
# sanitizer sees there alone says nothing and is left out. The workers and the stock client's
# llama-server are those installed. Fails if a test fails or anything was reported.
#
# SANITIZED_TESTS: what to run in place of all, for example "test_rpc_faults.py DecodeFaultTest".
set -euo pipefail
cd "$(dirname "$0")"
root=$PWD/../..

sanitizer=${1:-}
case "$sanitizer" in
  address)
    flags=address,undefined
    libraries="libasan.so libubsan.so"
    ;;
  thread)
    flags=thread
    libraries=libtsan.so
    ;;
  *)
    sed -n '4p' sanitized.sh >&2
    exit 2
    ;;
esac
build=$(realpath -m "${2:-$root/build/rpc-$sanitizer}")
compiler=${CXX:-g++}

engines=${RPC_ENGINES:-$(python3 - <<'PYTHON'
import rpc_cluster
print(rpc_cluster.engine_directory("cpu").parent)
PYTHON
)}
headers=${LLAMA_CPP_SOURCE:-$(find "$(dirname "$engines")" "$engines" -maxdepth 2 -name '.headers-*' -print -quit)}
if [ -z "$headers" ]; then
  echo "The headers of the engine's release are missing: run \`make engine\`" >&2
  exit 1
fi

cmake -G Ninja -S "$root/modules/rpc_pipeline" -B "$build/module" \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" \
  -DCMAKE_CXX_FLAGS="-fsanitize=$flags -fno-sanitize-recover=undefined -fno-omit-frame-pointer" \
  -DLLAMA_CPP_SOURCE="$headers" -DLLAMA_CPP_ENGINE="$engines/cpu" >/dev/null
cmake --build "$build/module" --target ggml-rpc-yoke

# llama-server looks for modules beside itself, wherever a link may lead.
for backend in cpu vulkan; do
  [ -d "$engines/$backend" ] || continue
  rm -rf "${build:?}/engines/$backend"
  mkdir -p "$build/engines"
  cp -al "$engines/$backend" "$build/engines/" 2>/dev/null ||
    { rm -rf "${build:?}/engines/$backend"; cp -a "$engines/$backend" "$build/engines/"; }
  cp --remove-destination "$build/module/libggml-rpc-yoke.so" "$build/engines/$backend/"
done

preload=
for library in $libraries; do
  preload+=${preload:+:}$("$compiler" -print-file-name="$library")
done
reports=$build/reports
rm -rf "$reports"
mkdir -p "$reports"

export RPC_ENGINES=$engines RPC_TESTED_ENGINES=$build/engines RPC_PRELOAD=$preload
export RPC_SLOWNESS=${RPC_SLOWNESS:-3} PYTHONDONTWRITEBYTECODE=1
# Mesa's, found with a local GPU.
echo "leak:libvulkan_" >"$build/leaks"
export LSAN_OPTIONS=suppressions=$build/leaks:print_suppressions=0
export ASAN_OPTIONS=detect_leaks=1:log_path=$reports/asan
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$reports/ubsan
export TSAN_OPTIONS=ignore_noninstrumented_modules=1:log_path=$reports/tsan

failed=0
if [ -n "${SANITIZED_TESTS:-}" ]; then
  # shellcheck disable=SC2086  # Words of a command line.
  python3 $SANITIZED_TESTS || failed=1
else
  python3 test_rpc_equal.py || failed=1
  python3 test_rpc_faults.py || failed=1
  python3 soak.py --requests "${SOAK_REQUESTS:-1000}" || failed=1
fi

if [ -n "$(ls -A "$reports")" ]; then
  echo "The $sanitizer sanitizer reported, in $reports:" >&2
  head -n 60 "$reports"/* >&2
  failed=1
fi
exit $failed
