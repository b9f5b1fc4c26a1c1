{{/* Names and labels. */}}

{{- define "runcast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "runcast.fullname" -}}
{{- $name := include "runcast.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "runcast.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "runcast.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels of an object. Takes (dict "root" $ "component" "sse-fanout"). */}}
{{- define "runcast.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: runcast
{{ include "runcast.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a pod: none that changes with the chart's version alone, for that would start all pods anew. */}}
{{- define "runcast.podLabels" -}}
app.kubernetes.io/part-of: runcast
{{ include "runcast.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What never changes of them, so that selectors hold through upgrades. */}}
{{- define "runcast.selector" -}}
app.kubernetes.io/name: {{ include "runcast.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* metadata of an object. Takes root, component, and where it is not NAME-COMPONENT, name. */}}
{{- define "runcast.metadata" -}}
name: {{ default (printf "%s-%s" (include "runcast.fullname" .root) .component) .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "runcast.labels" . | nindent 2 }}
{{- end -}}

{{/* An image's reference. Takes root, and image with repository, tag and digest. */}}
{{- define "runcast.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.image.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (coalesce .image.tag .root.Values.image.tag .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* A component's values by its name. */}}
{{- define "runcast.values" -}}
{{- get .root.Values (get (dict "sse-fanout" "fanout" "control-plane" "controlPlane" "replay" "replay" "redis" "redis") .component) | toYaml -}}
{{- end -}}
