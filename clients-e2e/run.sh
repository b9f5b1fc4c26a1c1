#!/usr/bin/env bash
# Clients of other makes against the real services: SSE, HTTP/2, WebSockets, gRPC, gRPC-Web and the archive; and the modules of the page.
# Builds nothing: expects runcast-sidecar, runcast-fanout, runcast-control and runcast-replay in target/debug, and
# redis-server on the PATH or under target/tools.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$root/target}
bin=${RUNCAST_BIN_DIR:-$target/debug}
work=$target/clients-e2e

fail() { echo "clients-e2e: $*" >&2; exit 1; }

# has COMMAND PACKAGES…: if COMMAND fails, installs the packages, as root on Debian; else says so.
has() {
  local command=$1; shift
  if eval "$command" >/dev/null 2>&1; then return; fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "clients-e2e: installing $* (apt-get)"
    apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends "$@" >/dev/null || true
  fi
  eval "$command" >/dev/null 2>&1 || fail "needs $*; please install"
}

has 'node --version && npm --version' nodejs npm
has 'curl --version && openssl version' curl openssl
has 'python3 -m venv --help && python3 -m ensurepip --version' python3 python3-venv
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' \
  || fail "needs Node.js 20 or later, found $(node --version)"

if ! command -v redis-server >/dev/null; then
  redis=$(find "$target/tools" -name redis-server -type f -perm -u+x -print -quit 2>/dev/null || true)
  [ -n "$redis" ] || fail "needs redis-server on the PATH or under $target/tools"
  PATH=$(dirname "$redis"):$PATH
fi
for name in runcast-sidecar runcast-fanout runcast-control runcast-replay; do
  [ -x "$bin/$name" ] || fail "$bin/$name is missing; run cargo build first"
done

# Installs only when what is asked for has changed.
mkdir -p "$work"
stamp() { cat "$@" | sha256sum | cut -d' ' -f1; }
npm_stamp=$(stamp "$here/package-lock.json")
if [ ! -d "$here/node_modules" ] || [ "$(cat "$work/npm.stamp" 2>/dev/null)" != "$npm_stamp" ]; then
  (cd "$here" && npm ci --no-update-notifier --loglevel=error)
  echo "$npm_stamp" >"$work/npm.stamp"
fi
pip_stamp=$(stamp "$here/requirements.txt")
if [ "$(cat "$work/pip.stamp" 2>/dev/null)" != "$pip_stamp" ]; then
  rm -rf "$work/venv"
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  echo "$pip_stamp" >"$work/pip.stamp"
fi

# Stubs as any user would make them.
python=$work/venv/bin/python
rm -rf "$work/stubs" && mkdir -p "$work/stubs"
"$python" -m grpc_tools.protoc -I "$root/proto" --python_out="$work/stubs" --grpc_python_out="$work/stubs" \
  "$root"/proto/runcast/control/v1/*.proto

node "$here/page.mjs"
node "$here/sse.mjs" "$bin" "$python"
node "$here/transports.mjs" "$bin" "$python"
node "$here/control.mjs" "$bin" "$python" "$work/stubs"
exec node "$here/archive.mjs" "$bin" "$python"
