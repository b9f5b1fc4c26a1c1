{{/* What all pods may reach: names, and Redis. Takes the root. */}}
{{- define "runcast.egress.common" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- if eq .Values.redis.topology "external" }}
- ports:
    {{- range .Values.redis.external.ports }}
    - {port: {{ . }}}
    {{- end }}
{{- else }}
- ports:
    {{- include "runcast.redis.ports" . | nindent 4 }}
    {{- if eq .Values.redis.topology "cluster" }}
    - {port: 16379}
    {{- end }}
  to:
    - podSelector:
        matchLabels:
          {{- include "runcast.selector" (dict "root" . "component" "redis") | nindent 10 }}
{{- end }}
{{- end -}}

{{/* Ports that clients of Redis use. Takes the root. */}}
{{- define "runcast.redis.ports" -}}
- {port: 6379}
{{- if eq .Values.redis.topology "sentinel" }}
- {port: 26379}
{{- end }}
{{- end -}}
