{{/* What the library's templates are told: the options of a sidecar of this release. Takes the root. */}}
{{- define "runcast.sidecar.ours" -}}
{{- $sidecar := .Values.sidecar -}}
image: {{ include "runcast.image" (dict "root" . "image" $sidecar.image) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
redisUrl: {{ include "runcast.redis.url" . | quote }}
runFrom: {{ $sidecar.runFrom }}
variationFrom: {{ $sidecar.variationFrom }}
{{- if include "runcast.redis.users" . }}
{{- if $sidecar.credentialsSecret }}
credentialsSecret: {{ $sidecar.credentialsSecret }}
{{- else if .Values.redis.auth.sharedAgents }}
credentialsSecret: runcast-agents
{{- end }}
{{- else }}
credentialsSecret: "-"
{{- end }}
{{- if include "runcast.redis.caSecret" . }}
ca: {{ $sidecar.ca }}
{{- end }}
journalSize: {{ $sidecar.journalSize }}
unfinished: {{ $sidecar.unfinished }}
otlpEndpoint: {{ .Values.telemetry.otlpEndpoint | quote }}
extraEnv:
  {{- toYaml $sidecar.extraEnv | nindent 2 }}
resources:
  {{- toYaml $sidecar.resources | nindent 2 }}
{{- end -}}

{{/*
A YAML value as an expression in CEL: objects with their types, by where they stand in a pod. Strings that begin with
`cel:` are expressions themselves. Takes value and type.
*/}}
{{- define "runcast.cel" -}}
{{- $type := .type -}}
{{- if kindIs "map" .value -}}
{{- $fields := list -}}
{{- $isMap := has (splitList "." $type | last) (list "limits" "requests") -}}
{{- range $key, $value := .value -}}
{{- if $isMap -}}
{{- $fields = append $fields (printf "%s: %s" (toJson $key) (toString $value | toJson)) -}}
{{- else -}}
{{- $fields = append $fields (printf "%s: %s" $key (include "runcast.cel" (dict "value" $value "type" (printf "%s.%s" $type $key)))) -}}
{{- end -}}
{{- end -}}
{{- printf "%s{%s}" ($isMap | ternary "" $type) (join ", " $fields) -}}
{{- else if kindIs "slice" .value -}}
{{- $items := list -}}
{{- range .value -}}{{- $items = append $items (include "runcast.cel" (dict "value" . "type" $type)) -}}{{- end -}}
{{- printf "[%s]" (join ", " $items) -}}
{{- else if and (kindIs "string" .value) (hasPrefix "cel:" .value) -}}
{{- trimPrefix "cel:" .value -}}
{{- else if kindIs "float64" .value -}}
{{- int64 .value -}}
{{- else -}}
{{- toJson .value -}}
{{- end -}}
{{- end -}}
