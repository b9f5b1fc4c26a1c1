{{/* Configuration files of the services, in TOML. */}}

{{/*
A value as TOML. Helm reads all numbers as floats, and its toToml writes them so: 4096 became 4096.0, which
an option that counts refuses.
*/}}
{{- define "runcast.toml.value" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{/* Sections with their options as TOML. */}}
{{- define "runcast.toml" -}}
{{- range $section, $options := . }}
[{{ $section }}]
{{- range $option, $value := $options }}
{{ $option }} = {{ include "runcast.toml.value" $value }}
{{- end }}
{{ end -}}
{{- end -}}

{{/* What all services are told alike. Takes root. */}}
{{- define "runcast.config.common" -}}
redis:
  {{- include "runcast.redis.config" .root | nindent 2 }}
telemetry:
  log: {{ .root.Values.telemetry.log | quote }}
  log_format: json
  otlp_endpoint: {{ .root.Values.telemetry.otlpEndpoint | quote }}
  otlp_sample_ratio: {{ .root.Values.telemetry.sampleRatio }}
{{- end -}}

{{/* Who may see and do what. */}}
{{- define "runcast.config.auth" -}}
{{- $auth := .root.Values.auth -}}
auth:
  mode: {{ $auth.mode | quote }}
{{- if eq $auth.mode "jwt" }}
  {{- if $auth.jwksUrl }}
  jwks_url: {{ $auth.jwksUrl | quote }}
  {{- else }}
  {{ get (dict "secret" "secret_file" "public-key" "public_key_file" "jwks" "jwks_file") $auth.key }}: /etc/runcast/auth/{{ $auth.key }}
  {{- end }}
  issuer: {{ $auth.issuer | quote }}
  audience: {{ $auth.audience | quote }}
{{- end }}
{{- end -}}

{{- define "runcast.config.sse-fanout" -}}
{{ include "runcast.config.common" . }}
{{ include "runcast.config.auth" . }}
http:
  listen: "0.0.0.0:8080"
admin:
  listen: "0.0.0.0:9090"
{{- if .root.Values.fanout.tls.enabled }}
tls:
  certificate_file: /etc/runcast/tls/tls.crt
  key_file: /etc/runcast/tls/tls.key
{{- end }}
{{- end -}}

{{- define "runcast.config.control-plane" -}}
{{ include "runcast.config.common" . }}
{{ include "runcast.config.auth" . }}
{{- if and .root.Values.redis.auth.manageRuns (include "runcast.redis.users" .root) }}
acl:
  manage: true
{{- end }}
grpc:
  listen: "0.0.0.0:50051"
admin:
  listen: "0.0.0.0:9092"
{{- if .root.Values.tls.enabled }}
tls:
  certificate_file: /etc/runcast/tls/tls.crt
  key_file: /etc/runcast/tls/tls.key
  {{- if .root.Values.controlPlane.tls.clientCaSecret }}
  client_ca_file: /etc/runcast/clients/ca.crt
  {{- end }}
{{- end }}
{{- end -}}

{{- define "runcast.config.replay" -}}
{{ include "runcast.config.common" . }}
{{ include "runcast.config.auth" . }}
http:
  listen: "0.0.0.0:8081"
admin:
  listen: "0.0.0.0:9093"
archive:
  url: {{ .root.Values.replay.archive.url | quote }}
{{- if .root.Values.replay.tls.enabled }}
tls:
  certificate_file: /etc/runcast/tls/tls.crt
  key_file: /etc/runcast/tls/tls.key
{{- end }}
{{- end -}}

{{/* A service's whole configuration file: what the chart sets, and over it what the values say. */}}
{{- define "runcast.config" -}}
{{- $ours := include (printf "runcast.config.%s" .component) . | fromYaml -}}
{{- $values := include "runcast.values" . | fromYaml -}}
{{- include "runcast.toml" (mergeOverwrite $ours $values.config) -}}
{{- end -}}
