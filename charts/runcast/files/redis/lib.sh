# What the Redis containers' scripts share; each of them reads it first. POSIX shell and redis-cli, nothing else.
#
# In the environment: TOPOLOGY (sentinel, cluster or standalone), HOSTS (all nodes' names), POD_NAME, POD_IP,
# TLS (true or false), ETC (the ConfigMap), USERS (a file with a password for each user), CERTS (tls.crt, tls.key,
# ca.crt), DATA (the volume), RUNTIME (a folder in memory). For tests, PORT and SENTINEL_PORT.
# shellcheck shell=sh

umask 077
PORT=${PORT:-6379}
SENTINEL_PORT=${SENTINEL_PORT:-26379}
readonly NAME=runcast

say() { echo "runcast: $*" >&2; }

password() { cat "$USERS/$1"; }

# The name by which the others know this node: its place in HOSTS is its number in the StatefulSet.
me() {
  # shellcheck disable=SC2086 # a word for each host
  set -- $HOSTS
  shift "${POD_NAME##*-}"
  echo "$1"
}

first() { echo "${HOSTS%% *}"; }

address_of() { getent ahosts "$1" | { read -r address _ && echo "$address"; }; }

# cli HOST PORT COMMAND…; as the user CLI_USER, or without one.
cli() {
  host=$1 port=$2
  shift 2
  if [ "$TLS" = true ]; then set -- --tls --cacert "$CERTS/ca.crt" "$@"; fi
  if [ -n "${CLI_USER:-}" ]; then
    # The password is not on the command line, which others can see.
    REDISCLI_AUTH=$(password "$CLI_USER")
    export REDISCLI_AUTH
    set -- --user "$CLI_USER" --no-auth-warning "$@"
  fi
  timeout 3 redis-cli -h "$host" -p "$port" "$@" 2>/dev/null
  status=$?
  unset REDISCLI_AUTH
  return $status
}

# Of this server. Names the fields of INFO that scripts look at.
info() { CLI_USER=probe cli "$(me)" "$PORT" INFO "$1" | tr -d '\r' | sed -n "s/^$2://p"; }

# Which node most of the other sentinels call the primary; nothing if none of them answers.
primary_by_sentinels() {
  for host in $HOSTS; do
    [ "$host" = "$(me)" ] || cli "$host" "$SENTINEL_PORT" SENTINEL GET-MASTER-ADDR-BY-NAME $NAME | head -n 1
  done | grep -v '^$' | sort | uniq -c | sort -rn | sed -n '1s/^ *[0-9]* *//p'
}

# Which node our own sentinel called the primary when it last wrote its file.
primary_on_disk() {
  sed -n "s/^sentinel monitor $NAME \([^ ]*\) .*/\1/p" "$DATA/sentinel.conf" 2>/dev/null || true
}

# Which node to take for the primary: what others say, else what we remember, else the first.
primary() {
  found=$(primary_by_sentinels)
  [ -n "$found" ] || found=$(primary_on_disk)
  echo "${found:-$(first)}"
}

# users FILE: writes an ACL file from the template, with the passwords' hashes in their places.
users() {
  template=$1
  rules=$(cat "$template")
  # shellcheck disable=SC2013 # names are words
  for name in $(sed -n 's/^user \([^ ]*\) .*%\1%.*/\1/p' "$template"); do
    hash=$(password "$name" | tr -d '\n' | sha256sum | cut -d' ' -f1)
    rules=$(echo "$rules" | sed "s/#%$name%/#$hash/")
  done
  # Redis refuses a file with a command that it does not know.
  case $(redis-server --version) in
    *' v=7.0.'*) rules=$(echo "$rules" | sed 's/ +waitaof//') ;;
  esac
  echo "$rules"
}

# Lines for redis.conf and sentinel.conf: where to listen. listen PORT
listen() {
  if [ "$TLS" = true ]; then
    echo "port 0"
    echo "tls-port $1"
    echo "tls-cert-file $CERTS/tls.crt"
    echo "tls-key-file $CERTS/tls.key"
    echo "tls-ca-cert-file $CERTS/ca.crt"
    # Clients show who they are by user and password.
    echo "tls-auth-clients no"
    echo "tls-replication yes"
    if [ "$TOPOLOGY" = cluster ]; then echo "tls-cluster yes"; fi
  else
    echo "port $1"
  fi
}
