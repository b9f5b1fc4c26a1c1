#!/usr/bin/env bash
# Gets what `make bench` compares with, as far as it can be had here: a Python environment, nginx with
# nchan, redis-benchmark. What cannot be had is named and left out of the comparison.
#
# Called by `scripts/tools.sh bench`. Everything goes to target/tools; no service is installed or started
# (Debian's nginx package would start one on port 80, so it is unpacked, never installed).
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly tools="$PWD/target/tools"
export PATH="$tools:$PATH:/usr/sbin"

say() { echo "tools: $*" >&2; }

# The pinned packages; again when the pins have changed.
python() {
  local folder="$tools/bench-python" pins=bench/baseline/requirements.txt
  cmp -s "$pins" "$folder/requirements.txt" && "$folder/bin/python" -c 'import fastapi' 2>/dev/null && return
  if ! python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "no Python baseline: python3 (3.11 or later) with venv is missing; on Debian or Ubuntu: sudo apt-get install python3-venv"
    return
  fi
  say "the Python baseline goes to $folder"
  rm -rf "$folder"
  if python3 -m venv "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --requirement "$pins" >&2; then
    cp "$pins" "$folder/requirements.txt"
  else
    say "no Python baseline: its packages cannot be had for this machine"
  fi
}

# unpack FOLDER PACKAGE…: unpacks Debian packages into a folder of target/tools.
unpack() {
  local folder="$tools/$1" package
  shift
  rm -rf "$folder" && mkdir -p "$folder/packages"
  (cd "$folder/packages" && apt-get download -qq "$@" >&2) || return 1
  for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder"; done
  rm -rf "$folder/packages"
}

# crates/bench looks at the same two places. nginx takes only modules built for its own version, so
# that both come from the same place.
nchan() {
  local module=usr/lib/nginx/modules/ngx_nchan_module.so
  [ -f "/$module" ] && [ -x /usr/sbin/nginx ] && return
  [ -f "$tools/nginx/$module" ] && "$tools/nginx/usr/sbin/nginx" -v 2>/dev/null && return
  if command -v apt-get >/dev/null && unpack nginx nginx libnginx-mod-nchan &&
    "$tools/nginx/usr/sbin/nginx" -v 2>/dev/null; then
    say "nginx with nchan is in $tools/nginx"
  else
    rm -rf "$tools/nginx"
    say "no nchan baseline: nginx with nchan cannot be had; on Debian or Ubuntu: sudo apt-get install nginx libnginx-mod-nchan"
  fi
}

redis_benchmark() {
  command -v redis-benchmark >/dev/null && return
  if command -v apt-get >/dev/null && unpack redis-tools redis-tools &&
    "$tools/redis-tools/usr/bin/redis-benchmark" --version >/dev/null 2>&1; then
    ln -sfn "$tools/redis-tools/usr/bin/redis-benchmark" "$tools/redis-benchmark"
    say "redis-benchmark is $tools/redis-benchmark"
  else
    say "no redis-benchmark: S7 goes without its comparison; on Debian or Ubuntu: sudo apt-get install redis-tools"
  fi
}

mkdir -p "$tools"
python
nchan
redis_benchmark
