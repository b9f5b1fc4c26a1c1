#!/bin/sh
# Starts a Redis server, in the part that falls to it.
set -eu
# shellcheck source=lib.sh
. "${ETC:=/etc/runcast/redis}/lib.sh"

# A primary that comes back without its data would have its replicas empty themselves, too. Then it is better that
# the sentinels make one of those the primary: for that, it stays down until they have.
await_other_primary() {
  say "the sentinels call this node the primary, but its data is gone; waiting for them to choose another"
  for _ in $(seq 60); do
    sleep 1
    found=$(primary_by_sentinels)
    if [ -n "$found" ] && [ "$found" != "$(me)" ]; then
      echo "$found"
      return
    fi
  done
  say "no other was chosen; starting empty"
  me
}

# Whether another node has keys: then there is something to lose.
others_have_data() {
  for host in $HOSTS; do
    [ "$host" = "$(me)" ] && continue
    if CLI_USER=probe cli "$host" "$PORT" INFO keyspace | grep -q '^db0:keys='; then return 0; fi
  done
  return 1
}

# Whether the others still take this node for a master that has slots. `id ip:port@bus,hostname flags … slots`
serves_for_others() {
  for host in $HOSTS; do
    [ "$host" = "$(me)" ] && continue
    if CLI_USER='admin' cli "$host" "$PORT" CLUSTER NODES |
      awk -v me="$(me)" '{ split($2, address, ",") } address[2] == me && $3 ~ /master/ && $3 !~ /fail$|fail,|noaddr/ && NF > 8 { found = 1 } END { exit !found }'
    then return 0; fi
  done
  return 1
}

# The same for a cluster: its replica would follow it into emptiness if the address were the same.
await_other_master() {
  for _ in $(seq 60); do
    serves_for_others || return 0
    say "the others call this node a master, but its data is gone; waiting for its replica to take over"
    sleep 1
  done
}

part() {
  case $TOPOLOGY in
    sentinel)
      primary=$(primary)
      if [ "$primary" = "$(me)" ] && [ ! -e "$DATA/appendonlydir" ] && others_have_data; then
        primary=$(await_other_primary)
      fi
      say "primary: $primary"
      # By name, not by address: addresses change with each restart of a pod.
      echo "replica-announce-ip $(me)"
      echo "replica-announce-port $PORT"
      [ "$primary" = "$(me)" ] || echo "replicaof $primary $PORT"
      ;;
    cluster)
      [ -e "$DATA/nodes.conf" ] || await_other_master
      echo "cluster-enabled yes"
      echo "cluster-config-file $DATA/nodes.conf"
      echo "cluster-announce-ip $POD_IP"
      echo "cluster-announce-hostname $(me)"
      # Clients are sent to names, which the certificate is for.
      echo "cluster-preferred-endpoint-type hostname"
      ;;
  esac
}

users "$ETC/users.acl" >"$RUNTIME/users.acl"
{
  cat "$ETC/redis.conf"
  listen "$PORT"
  echo "dir $DATA"
  echo "aclfile $RUNTIME/users.acl"
  echo "masteruser replication"
  echo "masterauth $(password replication)"
  part
} >"$RUNTIME/redis.conf"

if [ "$TOPOLOGY" = cluster ]; then "$ETC/keep-cluster.sh" & fi
exec redis-server "$RUNTIME/redis.conf"
