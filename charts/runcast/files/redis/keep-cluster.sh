#!/bin/sh
# Beside each node of a cluster: makes the cluster once, and has the nodes find one another again, for their addresses
# change when pods restart, and if all of them do at once nobody can tell anybody.
set -u
# shellcheck source=lib.sh
. "${ETC:=/etc/runcast/redis}/lib.sh"
export CLI_USER=admin

cluster() { cli "$(me)" "$PORT" CLUSTER "$@"; }

# Whether all nodes answer and none of them belongs to a cluster yet.
all_are_new() {
  for host in $HOSTS; do
    known=$(cli "$host" "$PORT" CLUSTER INFO | tr -d '\r' | sed -n 's/^cluster_slots_assigned:\(.*\)/\1/p')
    [ "$known" = 0 ] || return 1
    [ "$(cli "$host" "$PORT" CLUSTER NODES | wc -l)" = 1 ] || return 1
  done
}

create() {
  addresses=""
  for host in $HOSTS; do addresses="$addresses $(address_of "$host"):$PORT"; done
  if [ "$TLS" = true ]; then set -- --tls --cacert "$CERTS/ca.crt"; else set --; fi
  say "making the cluster:$addresses"
  # shellcheck disable=SC2086 # a word for each address
  REDISCLI_AUTH=$(password admin) timeout 60 redis-cli --user admin --no-auth-warning "$@" \
    --cluster create $addresses --cluster-replicas "$REPLICAS" --cluster-yes >&2
}

# Tells the others that we know, or shall know, where they are now.
meet() {
  nodes=$(cluster NODES)
  for host in $HOSTS; do
    address=$(address_of "$host")
    [ -n "$address" ] || continue
    echo "$nodes" | grep " $address:$PORT@" | grep -q ' connected' || cluster MEET "$address" "$PORT" >/dev/null
  done
}

while :; do
  sleep 3
  if [ "$(me)" = "$(first)" ] && all_are_new; then create; fi
  # Nodes that belong to no cluster wait for the first, so that two clusters never begin.
  [ "$(cluster NODES | wc -l)" -le 1 ] || meet
done
