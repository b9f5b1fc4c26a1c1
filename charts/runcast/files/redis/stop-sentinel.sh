#!/bin/sh
# A sentinel stays until the server beside it has handed over: with a sentinel less, a failover may lack votes.
set -u
# shellcheck source=lib.sh
. "${ETC:=/etc/runcast/redis}/lib.sh"

for _ in $(seq 20); do
  [ "$(info replication role)" = master ] || exit 0
  sleep 1
done
