{{/* Certificates: which Secret, and for which names. Takes root and of: redis, control-plane, sse-fanout or replay. */}}

{{- define "runcast.tls.secret" -}}
{{- $tls := .root.Values.tls -}}
{{- if eq $tls.mode "existingSecrets" -}}
{{- $key := get (dict "redis" "redis" "control-plane" "controlPlane" "sse-fanout" "fanout" "replay" "replay") .of -}}
{{- required (printf "tls.existingSecrets.%s is needed with tls.mode existingSecrets" $key) (get $tls.existingSecrets $key) -}}
{{- else -}}
{{- printf "%s-%s-tls" (include "runcast.fullname" .root) .of -}}
{{- end -}}
{{- end -}}

{{/* Which certificates the release needs, separated by spaces. Takes the root. */}}
{{- define "runcast.tls.needed" -}}
{{- $needed := list -}}
{{- if .Values.tls.enabled -}}
{{- if ne .Values.redis.topology "external" -}}{{- $needed = append $needed "redis" -}}{{- end -}}
{{- if .Values.controlPlane.enabled -}}{{- $needed = append $needed "control-plane" -}}{{- end -}}
{{- end -}}
{{- if and .Values.fanout.enabled .Values.fanout.tls.enabled -}}{{- $needed = append $needed "sse-fanout" -}}{{- end -}}
{{- if and .Values.replay.enabled .Values.replay.tls.enabled -}}{{- $needed = append $needed "replay" -}}{{- end -}}
{{- join " " $needed -}}
{{- end -}}

{{/* Names that a certificate is for, as a JSON list. */}}
{{- define "runcast.tls.names" -}}
{{- $service := printf "%s-%s" (include "runcast.fullname" .root) .of -}}
{{- $names := list "localhost" $service -}}
{{- range $suffix := list "" (printf ".%s" .root.Values.clusterDomain) -}}
{{- $inside := printf "%s.%s.svc%s" $service $.root.Release.Namespace $suffix -}}
{{- $names = append $names $inside -}}
{{- if eq $.of "redis" -}}{{- $names = append $names (printf "*.%s" $inside) -}}{{- end -}}
{{- end -}}
{{- if eq .of "replay" -}}
{{- $names = concat $names .root.Values.gateway.replayHostnames | uniq -}}
{{- else if eq .of "sse-fanout" -}}
{{- $names = concat $names .root.Values.gateway.hostnames .root.Values.ingress.hosts | uniq -}}
{{- else if eq .of "control-plane" -}}
{{- $names = concat $names .root.Values.gateway.controlHostnames | uniq -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}
