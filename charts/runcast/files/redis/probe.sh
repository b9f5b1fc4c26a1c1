#!/bin/sh
# probe.sh alive | ready | sentinel
set -u
# shellcheck source=lib.sh
. "${ETC:=/etc/runcast/redis}/lib.sh"

case $1 in
  # Any answer is a sign of life, also that it is loading.
  alive) [ -n "$(CLI_USER=probe cli "$(me)" "$PORT" PING)" ] ;;
  # A replica is ready once it is in step: a rolling update then never takes the last copy.
  ready)
    case $(info replication role) in
      master) ;;
      slave) [ "$(info replication master_link_status)" = up ] ;;
      *) exit 1 ;;
    esac
    [ "$(info persistence loading)" = 0 ]
    ;;
  sentinel) [ "$(cli "$(me)" "$SENTINEL_PORT" PING)" = PONG ] ;;
esac
