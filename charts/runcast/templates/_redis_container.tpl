{{/* What a server's and a sentinel's container have in common. Takes the root. */}}
{{- define "runcast.redis.container" -}}
{{- with .Values.redis -}}
image: {{ include "runcast.image" (dict "root" $ "image" .image) }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
securityContext:
  {{- include "runcast.containerSecurity" $ | nindent 2 }}
env:
  - {name: TOPOLOGY, value: {{ .topology }}}
  - {name: HOSTS, value: {{ include "runcast.redis.hosts" $ | quote }}}
  - {name: TLS, value: {{ $.Values.tls.enabled | quote }}}
  - {name: ETC, value: /etc/runcast/redis}
  - {name: USERS, value: /etc/runcast/users}
  - {name: CERTS, value: /etc/runcast/certificates}
  - {name: DATA, value: /data}
  - {name: RUNTIME, value: /run/runcast}
  {{- if eq .topology "sentinel" }}
  - {name: QUORUM, value: {{ add 1 (div .sentinel.nodes 2) | quote }}}
  {{- else if eq .topology "cluster" }}
  - {name: REPLICAS, value: {{ .cluster.replicasPerShard | int | quote }}}
  {{- end }}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
volumeMounts:
  - {name: config, mountPath: /etc/runcast/redis, readOnly: true}
  - {name: users, mountPath: /etc/runcast/users, readOnly: true}
  {{- if $.Values.tls.enabled }}
  - {name: certificates, mountPath: /etc/runcast/certificates, readOnly: true}
  {{- end }}
  - {name: data, mountPath: /data}
  - {name: runtime, mountPath: /run/runcast}
{{- end -}}
{{- end -}}
