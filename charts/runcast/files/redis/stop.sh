#!/bin/sh
# Before a server ends: a primary hands over to a replica that has everything, so that nobody waits for the others to
# notice. Ends in time in any case, and does no harm where there is nobody to hand over to.
set -u
# shellcheck source=lib.sh
. "${ETC:=/etc/runcast/redis}/lib.sh"
export CLI_USER=admin

is_primary() { [ "$(info replication role)" = master ]; }

# Whom the sentinels call the primary, once that is not us any more. They need seconds more to make this server a
# replica, but nobody waits for that.
successor() {
  now=$(primary_by_sentinels)
  [ "$now" = "$(me)" ] || echo "$now"
}

by_sentinel() {
  # A sentinel that has just started knows no replica for up to ten seconds.
  for _ in $(seq 25); do
    for host in $HOSTS; do
      # Our own sentinel is about to end as well.
      [ "$host" != "$(me)" ] || continue
      # Writers wait, instead of losing what the replica does not get any more. Not for long: the sentinels' own
      # publishing waits as well, and then they take us for dead.
      cli "$(me)" "$PORT" CLIENT PAUSE 4000 WRITE >/dev/null
      answer=$(CLI_USER=sentinel cli "$host" "$SENTINEL_PORT" SENTINEL FAILOVER $NAME)
      say "asked the sentinel of $host for a failover: $answer"
      if [ "$answer" = OK ]; then break 2; fi
      cli "$(me)" "$PORT" CLIENT UNPAUSE >/dev/null
    done
    sleep 1
  done
  for _ in $(seq 20); do
    now=$(CLI_USER='' successor)
    if [ -n "$now" ]; then say "handed over to $now"; return; fi
    sleep 0.5
  done
  say "nobody took over"
}

by_cluster() {
  id=$(cli "$(me)" "$PORT" CLUSTER MYID)
  # `id ip:port@bus,hostname flags master …`
  cli "$(me)" "$PORT" CLUSTER REPLICAS "$id" | grep -v fail | while read -r _ address _; do
    at=${address%%@*}
    # It has the master's writers wait, and takes over once it has everything.
    answer=$(cli "${at%:*}" "${at##*:}" CLUSTER FAILOVER)
    say "asked $at to take over: $answer"
    for _ in $(seq 20); do
      is_primary || { say "handed over to $at"; return; }
      sleep 0.5
    done
  done
}

if is_primary; then
  case $TOPOLOGY in
    sentinel) by_sentinel ;;
    cluster) by_cluster ;;
  esac
fi
exit 0
