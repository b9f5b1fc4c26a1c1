{{/* A service's Service. Takes root, component, ports, port (the main one's name) and protocol (its appProtocol). */}}
{{- define "runcast.service" -}}
{{- $service := (include "runcast.values" . | fromYaml).service -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "runcast.metadata" . | nindent 2 }}
  {{- with $service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  ports:
    - name: {{ .port }}
      port: {{ $service.port }}
      targetPort: {{ .port }}
      appProtocol: {{ .protocol }}
  selector:
    {{- include "runcast.selector" . | nindent 4 }}
---
# The admin port, for who scrapes it and for `runcast doctor`; never on the type of Service above.
apiVersion: v1
kind: Service
metadata:
  {{- include "runcast.metadata" (merge (dict "name" (printf "%s-%s-admin" (include "runcast.fullname" .root) .component)) .) | nindent 2 }}
spec:
  ports:
    - name: admin
      port: {{ .ports.admin }}
      targetPort: admin
  selector:
    {{- include "runcast.selector" . | nindent 4 }}
{{- end -}}
