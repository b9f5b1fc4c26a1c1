#!/bin/sh
# Beside each node of a cluster: makes the cluster once; has the nodes find one another again, for their addresses change
# when pods restart, and if all of them do at once nobody can tell anybody; and has one whose volume was lost take
# part again.
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

# A node that lost its volume comes back as another: that it was is to be forgotten. Each node does so for itself.
forget() {
  cluster NODES | awk '
    { split($2, address, ","); host = address[2] }
    $3 ~ /noaddr/ || $3 ~ /fail/ && $3 !~ /fail\?/ { gone[$1] = host; next }
    { here[host] = 1 }
    END { for (id in gone) if (gone[id] != "" && gone[id] in here) print id }
  ' | while read -r id; do
    say "forgetting $id, in whose place there is another"
    cluster FORGET "$id" >/dev/null
  done
}

# A master that has nothing, where all slots have theirs, becomes a replica of the one with the fewest.
serve() {
  [ "$(cluster INFO | tr -d '\r' | sed -n 's/^cluster_slots_ok://p')" = 16384 ] || return
  master=$(cluster NODES | awk '
    $3 ~ /myself/ { if ($3 ~ /master/ && NF == 8) idle = 1; next }
    $3 ~ /fail|noaddr|handshake/ { next }
    $3 ~ /master/ && NF > 8 { replicas[$1] += 0 }
    $3 ~ /slave/ { replicas[$4]++ }
    END { if (idle) for (id in replicas) print replicas[id], id }
  ' | sort -n | sed -n '1s/.* //p')
  [ -z "$master" ] || say "becoming a replica of $master: $(cluster REPLICATE "$master")"
}

while :; do
  sleep 3
  if [ "$(me)" = "$(first)" ] && all_are_new; then create; fi
  # Nodes that belong to no cluster wait for the first, so that two clusters never begin.
  if [ "$(cluster NODES | wc -l)" -gt 1 ]; then
    forget
    meet
    serve
  fi
done
