#!/usr/bin/env bash
# Builds the images of all programs, or of those that are named, with whichever of docker, podman and buildah works here.
# In the environment: TAG (the version of Cargo.toml), REGISTRY (none), BUILDER (the Dockerfile's), JOBS (of cargo).
set -euo pipefail
cd "$(dirname "$0")/.."

programs=("$@")
[ $# -gt 0 ] || programs=(runcast-fanout runcast-control runcast-replay runcast-sidecar runcast sample-agent)
tag=${TAG:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}

if docker info >/dev/null 2>&1; then
  build=(docker build)
elif command -v podman >/dev/null; then
  build=(podman build)
elif command -v buildah >/dev/null; then
  # Isolation by chroot needs no rights beyond root's own, nor namespaces.
  build=(buildah build --isolation "${BUILDAH_ISOLATION:-chroot}")
else
  echo "images: no docker that answers, no podman, no buildah. On Debian or Ubuntu: sudo apt-get install buildah" >&2
  exit 1
fi

for program in "${programs[@]}"; do
  arguments=(--build-arg "PROGRAM=$program")
  # The sample agent is started by `runcast-sidecar exec`, as agents of one's own are.
  [ "$program" != sample-agent ] || arguments+=(--build-arg ALSO=runcast-sidecar)
  [ -z "${BUILDER:-}" ] || arguments+=(--build-arg "BUILDER=$BUILDER")
  [ -z "${JOBS:-}" ] || arguments+=(--build-arg "JOBS=$JOBS")
  image="${REGISTRY:+${REGISTRY%/}/}runcast/$program:$tag"
  echo "images: $image, with ${build[0]}"
  "${build[@]}" --file docker/Dockerfile --tag "$image" "${arguments[@]}" .
done
