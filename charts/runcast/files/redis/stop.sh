#!/bin/sh
# Before a server ends: a primary hands over to a replica that has everything, so that nobody waits for the others to
# notice. Ends in time in any case, and does no harm where there is nobody to hand over to.
set -u
# shellcheck source=lib.sh
. "${ETC:=/etc/runcast/redis}/lib.sh"
export CLI_USER=admin

is_primary() { [ "$(info replication role)" = master ]; }

# until_handed_over SECONDS
until_handed_over() {
  for _ in $(seq "$1"); do
    is_primary || { say "handed over"; return 0; }
    sleep 1
  done
  return 1
}

by_sentinel() {
  # Writers wait, instead of losing what the replica does not get any more.
  cli "$(me)" "$PORT" CLIENT PAUSE 4000 WRITE
  for host in $HOSTS; do
    # Our own sentinel is about to end as well.
    [ "$host" != "$(me)" ] || continue
    answer=$(CLI_USER=sentinel cli "$host" "$SENTINEL_PORT" SENTINEL FAILOVER $NAME)
    if [ "$answer" = OK ] && until_handed_over 15; then return; fi
    say "the sentinel of $host did not fail over: $answer"
  done
  cli "$(me)" "$PORT" CLIENT UNPAUSE
}

by_cluster() {
  id=$(cli "$(me)" "$PORT" CLUSTER MYID)
  # `id ip:port@bus,hostname flags master …`
  cli "$(me)" "$PORT" CLUSTER REPLICAS "$id" | grep -v fail | while read -r _ address _; do
    at=${address%%@*}
    # It has the master's writers wait, and takes over once it has everything.
    answer=$(cli "${at%:*}" "${at##*:}" CLUSTER FAILOVER)
    say "asked $at to take over: $answer"
    if [ "$answer" = OK ] && until_handed_over 10; then break; fi
  done
}

if is_primary; then
  case $TOPOLOGY in
    sentinel) by_sentinel ;;
    cluster) by_cluster ;;
  esac
fi
exit 0
