{{/* How Redis is reached. All of these take the root. */}}

{{- define "runcast.redis.name" -}}{{ include "runcast.fullname" . }}-redis{{- end -}}

{{- define "runcast.redis.domain" -}}
{{ include "runcast.redis.name" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "runcast.redis.nodes" -}}
{{- with .Values.redis -}}
{{- if eq .topology "sentinel" -}}{{ .sentinel.nodes }}
{{- else if eq .topology "cluster" -}}{{ mul .cluster.shards (add 1 .cluster.replicasPerShard) }}
{{- else -}}1{{- end -}}
{{- end -}}
{{- end -}}

{{/* The nodes' names, separated by spaces. */}}
{{- define "runcast.redis.hosts" -}}
{{- $domain := include "runcast.redis.domain" . -}}
{{- $name := include "runcast.redis.name" . -}}
{{- $hosts := list -}}
{{- range $i := until (include "runcast.redis.nodes" . | int) -}}
{{- $hosts = append $hosts (printf "%s-%d.%s" $name $i $domain) -}}
{{- end -}}
{{- join " " $hosts -}}
{{- end -}}

{{/* The address for services and sidecars. */}}
{{- define "runcast.redis.url" -}}
{{- $topology := .Values.redis.topology -}}
{{- if eq $topology "external" -}}
{{- required "redis.external.url is needed with redis.topology external" .Values.redis.external.url -}}
{{- else -}}
{{- $scheme := .Values.tls.enabled | ternary "rediss" "redis" -}}
{{- $hosts := splitList " " (include "runcast.redis.hosts" .) -}}
{{- $port := eq $topology "sentinel" | ternary 26379 6379 -}}
{{- $kind := get (dict "sentinel" "-sentinel" "cluster" "-cluster" "standalone" "") $topology -}}
{{- $query := list -}}
{{- if eq $topology "sentinel" -}}{{- $query = append $query "sentinelServiceName=runcast" -}}{{- end -}}
{{- range rest $hosts -}}{{- $query = append $query (printf "node=%s:%d" . $port) -}}{{- end -}}
{{- printf "%s%s://%s:%d%s" $scheme $kind (first $hosts) $port ($query | empty | ternary "" (printf "?%s" (join "&" $query))) -}}
{{- end -}}
{{- end -}}

{{/* Whether there are Redis users, and the Secret with their passwords. */}}
{{- define "runcast.redis.users" -}}
{{- if or (ne .Values.redis.topology "external") .Values.redis.external.users -}}
{{- if and (eq .Values.redis.topology "external") (not .Values.redis.auth.existingSecret) -}}
{{- fail "redis.auth.existingSecret is needed with redis.topology external, unless redis.external.users is off" -}}
{{- end -}}
{{- default (printf "%s-users" (include "runcast.redis.name" .)) .Values.redis.auth.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* The Secret with ca.crt for Redis' certificate; empty for the system's authorities. */}}
{{- define "runcast.redis.caSecret" -}}
{{- if eq .Values.redis.topology "external" -}}
{{- .Values.redis.external.caSecret -}}
{{- else if .Values.tls.enabled -}}
{{- include "runcast.tls.secret" (dict "root" . "of" "redis") -}}
{{- end -}}
{{- end -}}

{{- define "runcast.redis.clientCertSecret" -}}
{{- if eq .Values.redis.topology "external" -}}{{- .Values.redis.external.clientCertSecret -}}{{- end -}}
{{- end -}}

{{/* [redis] of a service; user and password come from the environment. */}}
{{- define "runcast.redis.config" -}}
url: {{ include "runcast.redis.url" . | quote }}
{{- if include "runcast.redis.caSecret" . }}
ca_file: /etc/runcast/redis/ca.crt
{{- end }}
{{- if include "runcast.redis.clientCertSecret" . }}
cert_file: /etc/runcast/redis-client/tls.crt
key_file: /etc/runcast/redis-client/tls.key
{{- end }}
{{- end -}}

{{/* Environment with a Redis user's name and password. Takes root and user. */}}
{{- define "runcast.redis.env" -}}
{{- with include "runcast.redis.users" .root -}}
- name: RUNCAST__REDIS__USERNAME
  value: {{ $.user }}
- name: RUNCAST__REDIS__PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.user }}
{{- end -}}
{{- end -}}
