#!/usr/bin/env bash
# Installs what is missing of the Debian packages that Yoke's make targets need.
#
#   bash tools/setup.sh GROUP...      build: compiler and libraries      engine: llama.cpp's sources
#                                     test: linters and test tools       bench: load generators
#
# Nothing is removed or upgraded, recommended packages are left out, and where nothing is missing
# neither apt nor root rights are used. YOKE_SETUP=skip leaves everything to you.
set -euo pipefail

log="${XDG_CACHE_HOME:-$HOME/.cache}/yoke/logs/setup.log"

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Debian's npm conflicts with a Node.js from elsewhere, so what counts is the command.
unless_command() {
  if ! command -v "$1" >/dev/null; then echo "$2"; fi
}

packages_of() {
  case "$1" in
    build)
      echo g++ cmake ninja-build ccache mold git pkg-config python3 ca-certificates
      echo libboost1.81-dev libboost-json1.81-dev libboost-url1.81-dev libexpected-dev
      echo libtomlplusplus-dev libcli11-dev libspdlog-dev libfmt-dev libssl-dev libedit-dev
      echo libsqlite3-dev libcurl4-openssl-dev libvulkan-dev
      ;;
    engine)
      echo g++ cmake ninja-build ccache mold git python3 python3-pip ca-certificates libgomp1 libvulkan1
      unless_command npm npm
      ;;
    test)
      echo clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev libgtest-dev libgmock-dev
      echo curl openssl python3 procps iproute2 mesa-vulkan-drivers libvulkan1
      unless_command node nodejs
      unless_command npm npm
      ;;
    bench)
      echo wrk libbenchmark-dev curl python3
      ;;
    *)
      fail "'$1' is no group: name one or more of build, engine, test, bench"
      ;;
  esac
}

is_installed() {
  dpkg-query -W -f '${db:Status-Abbrev}\n' "$1" 2>/dev/null | grep -q '^.i'
}

# Prints the packages of its arguments that are not installed.
missing_of() {
  { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null || true; } |
    awk -v wanted="$*" '
      $1 ~ /^.i/ { here[$2] = 1 }
      END {
        count = split(wanted, names, " ")
        for (i = 1; i <= count; i++)
          if (!(names[i] in here) && !(names[i] in told)) { told[names[i]] = 1; print names[i] }
      }'
}

# Passes apt's lines to the log and counts the packages: one refreshing line on a terminal, one line
# per quarter elsewhere. $1: how many there are, until apt says so itself.
count_packages() {
  local total="$1" done=0 quarter=0 line
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$log"
    if [[ "$line" =~ ([0-9]+)\ newly\ installed ]]; then total="${BASH_REMATCH[1]}"; fi
    if [[ "$line" != "Setting up "* ]]; then continue; fi
    done=$((done + 1))
    if [ -t 1 ]; then
      printf '\r\033[K  %d of %d packages installed' "$done" "$total"
    elif [ $((done * 4 / total)) -gt "$quarter" ]; then
      quarter=$((done * 4 / total))
      printf '  %d of %d packages installed\n' "$done" "$total"
    fi
  done
  if [ -t 1 ] && [ "$done" -gt 0 ]; then echo; fi
}

run_apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -y \
    -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" 2>&1
}

install_packages() {
  run_apt install --no-install-recommends --no-remove --no-upgrade "$@" | count_packages "$#"
}

if [ "$#" -eq 0 ]; then fail "name one or more groups: build, engine, test, bench"; fi
if [ "${YOKE_SETUP:-}" = skip ]; then exit 0; fi

wanted=()
for group in "$@"; do
  names="$(packages_of "$group")"
  read -r -d '' -a some <<<"$names" || true
  wanted+=("${some[@]}")
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  fail "this is no Debian-like system: install what these Debian 12 packages hold by hand," \
    "then set YOKE_SETUP=skip: ${wanted[*]}"
fi

mapfile -t missing < <(missing_of "${wanted[@]}")
if [ "${#missing[@]}" -eq 0 ]; then exit 0; fi

if [[ " ${missing[*]} " == *" libboost1.81-dev "* ]] && is_installed libboost1.74-dev; then
  fail "Yoke needs libboost1.81-dev, which Debian does not let stand beside the installed" \
    "libboost1.74-dev: remove that with 'apt-get remove libboost1.74-dev' and call this again."
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    fail "run this as root, as there is no sudo: apt-get install --no-install-recommends ${missing[*]}"
  fi
  as_root=(sudo)
  if [ ! -t 0 ]; then as_root=(sudo -n); fi
fi

mkdir -p "$(dirname "$log")"
: >"$log"
echo "Installing from Debian's packages, in 1 to 5 minutes: ${missing[*]}"
# Package lists may be absent (a fresh container) or name files the mirror no longer has.
if ! install_packages "${missing[@]}"; then
  if ! { run_apt update >>"$log" && install_packages "${missing[@]}"; }; then
    tail -n 20 "$log" | sed 's/^/  /' >&2
    fail "apt-get could not install ${missing[*]} (Yoke is made for Debian 12; full log: $log)"
  fi
fi
