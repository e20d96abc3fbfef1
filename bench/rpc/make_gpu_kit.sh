#!/usr/bin/env bash
# Packs what the bench on GPUs needs, for a machine that has nothing but Python and a driver:
#
#   bench/rpc/make_gpu_kit.sh [DIRECTORY]      build/rpc-kit if not said
#
# Writes kit.tar.gz, and run.sh, which unpacks it there and passes its arguments on to
# `rpc_bench.py gpu`. Run it on Debian or Ubuntu, with the engine installed for Vulkan and with the
# pipelined client: the loader of Vulkan comes from there.
set -euo pipefail
cd "$(dirname "$0")/../.."

kit=${1:-build/rpc-kit}
data=${XDG_DATA_HOME:-$HOME/.local/share}
engine=$(printf '%s\n' "$data"/yoke/engines/llama.cpp-*/vulkan | sort -V | tail -1)
[ -e "$engine/libggml-rpc-yoke.so" ] || { echo "no pipelined client in $engine" >&2; exit 1; }
processors='sapphirerapids|icelake|skylakex|zen4|haswell|x64'
# The loader, and what the drivers of GPUs look for.
packages=(libvulkan1 libegl1 libglvnd0 libopengl0 libgl1 libglx0 libgles2 libx11-6 libxext6 libxcb1
  libxau6 libxdmcp6 libbsd0 libmd0 libgomp1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{debs,unpacked,kit/{lib,engine,bench,tests}} "$kit"

(cd "$work/debs" && apt-get download -qq "${packages[@]}" 2>/dev/null)
for deb in "$work"/debs/*.deb; do
  dpkg -x "$deb" "$work/unpacked"
done
find "$work/unpacked" -name '*.so*' -exec cp -d {} "$work/kit/lib/" \;

for file in "$engine"/{llama-bench,ggml-rpc-server,lib*.so*}; do
  [[ $file == */libggml-cpu-* && ! $file =~ -($processors)\.so$ ]] && continue
  case $file in *libllama-server* | *libmtmd* | *libllama-quantize* | *libllama-fit*) continue ;; esac
  cp -d "$file" "$work/kit/engine/"
done
find "$work/kit/engine" -type f -exec strip --strip-unneeded {} +

mkdir "$work/kit/tests/models"
cp -r bench/rpc "$work/kit/bench/"
cp tests/models/{architectures,gguf_writer}.py "$work/kit/tests/models/"
rm -rf "$work/kit/bench/rpc/__pycache__"

tar -C "$work/kit" -czf "$kit/kit.tar.gz" .
cat >"$kit/run.sh" <<'RUN'
#!/usr/bin/env bash
# Unpacks the kit beside it and measures. Arguments: those of `rpc_bench.py gpu`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -C "$work" -xzf "$here/kit.tar.gz"
libraries=$work/lib
# Where some images keep NVIDIA's driver, unknown to the loaders.
nvidia=/usr/local/nvidia
if [ -d $nvidia ]; then
  libraries+=:$nvidia/lib64:$nvidia/lib
  driver=$nvidia/share/vulkan/icd.d/nvidia_icd.json
  egl=$nvidia/share/glvnd/egl_vendor.d/10_nvidia.json
  if [ -e $driver ]; then export VK_DRIVER_FILES=${VK_DRIVER_FILES:-$driver}; fi
  if [ -e $egl ]; then export __EGL_VENDOR_LIBRARY_FILENAMES=$egl; fi
fi
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PYTHONUNBUFFERED=1
python3 "$work/bench/rpc/rpc_bench.py" gpu --engine "$work/engine" "$@"
RUN
chmod +x "$kit/run.sh"
du -sh "$kit"
