#!/bin/sh
# Starts a sentinel. What it wrote to its file last time, which primary and which epochs, it knows again.
set -eu
# shellcheck source=lib.sh
. "${ETC:=/etc/runcast/redis}/lib.sh"

file=$DATA/sentinel.conf
primary=$(primary_on_disk)
[ -n "$primary" ] || primary=$(primary)
remembered=$(grep -E "^sentinel (myid|current-epoch) |^sentinel (config-epoch|leader-epoch|known-replica|known-sentinel) $NAME " \
  "$file" 2>/dev/null || true)

# A sentinel does not start with a primary whose name is not known yet.
for _ in $(seq 60); do
  [ -z "$(address_of "$primary")" ] || break
  sleep 1
done

users "$ETC/sentinel.acl" >"$RUNTIME/sentinel.acl"
{
  listen "$SENTINEL_PORT"
  echo "dir $RUNTIME"
  echo "aclfile $RUNTIME/sentinel.acl"
  echo "sentinel resolve-hostnames yes"
  echo "sentinel announce-hostnames yes"
  echo "sentinel announce-ip $(me)"
  echo "sentinel announce-port $SENTINEL_PORT"
  echo "sentinel sentinel-user sentinel"
  echo "sentinel sentinel-pass $(password sentinel)"
  echo "sentinel monitor $NAME $primary $PORT $QUORUM"
  echo "sentinel auth-user $NAME sentinel"
  echo "sentinel auth-pass $NAME $(password sentinel)"
  cat "$ETC/sentinel.conf"
  echo "$remembered"
} >"$file.new"
mv "$file.new" "$file"
exec redis-server "$file" --sentinel
