{{/*
Redis' users. What Runcast's own may do is printed by crates/bus (`cargo run -p runcast-bus --example acl`) into
files/users.acl, and a test there fails if that is not so any more; here are only those that Redis itself needs.
Passwords' hashes are put in when a pod starts, from the Secret.

The user `default` is off, so nobody is it; but Redis itself is while it reads its append-only file, and without rights
it would leave out, silently, what transactions and scripts wrote.
*/}}
{{- define "runcast.acl" -}}
user default off ~* &* +@all
user admin on ~* &* +@all #%admin%
user replication on +psync +replconf +ping #%replication%
user sentinel on &* +multi +slaveof +replicaof +ping +exec +subscribe +config|rewrite +role +publish +info +client|setname +client|kill +script|kill #%sentinel%
user probe on +ping +info +role #%probe%
{{ include "runcast.acl.services" . }}
{{- end -}}

{{- define "runcast.acl.services" -}}
{{- $auth := .Values.redis.auth -}}
{{- if and $auth.manageRuns $auth.runs -}}
{{- fail "redis.auth.runs and redis.auth.manageRuns: the control-plane deletes users of runs that it did not make; choose one" -}}
{{- end -}}
{{- $rules := list -}}
{{- range .Files.Get "files/users.acl" | trim | splitList "\n" -}}
{{- $name := index (splitList " " .) 1 -}}
{{- if eq $name "runcast-agents" -}}
{{- if $auth.sharedAgents -}}{{- $rules = append $rules . -}}{{- end -}}
{{- /* A run's user may of its run what that one may of all. */ -}}
{{- $line := . -}}
{{- range $auth.runs -}}
{{- $rules = append $rules ($line | replace "runcast-agents" (printf "runcast-run-%s" .) | replace "{*}" (printf "{%s}" .)) -}}
{{- end -}}
{{- /* The control-plane's is there twice: as it is, and as it must be to make users. */ -}}
{{- else if or (ne $name "runcast-control") (eq (contains "+acl|setuser" .) $auth.manageRuns) -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- range $i, $rule := $rules -}}
{{- if $i }}{{ "\n" }}{{ end -}}
{{- printf "%s #%%%s%%" $rule (index (splitList " " $rule) 1) -}}
{{- end -}}
{{- end -}}

{{/* Users of sidecars that the chart makes, separated by spaces. */}}
{{- define "runcast.redis.agents" -}}
{{- $users := list -}}
{{- if .Values.redis.auth.sharedAgents -}}{{- $users = append $users "runcast-agents" -}}{{- end -}}
{{- range .Values.redis.auth.runs -}}{{- $users = append $users (printf "runcast-run-%s" .) -}}{{- end -}}
{{- join " " $users -}}
{{- end -}}

{{/*
The sentinels' users. Who can reach a sentinel may ask without a password where the primary is, and nothing else:
addresses with passwords would have to be given to every client.
*/}}
{{- define "runcast.acl.sentinel" -}}
user default on nopass &+switch-master -@all +hello +ping +role +info +client|id +client|setname +subscribe +unsubscribe +sentinel|get-master-addr-by-name +sentinel|sentinels +sentinel|replicas +sentinel|ckquorum
user sentinel on ~* &* +@all #%sentinel%
{{- end -}}
