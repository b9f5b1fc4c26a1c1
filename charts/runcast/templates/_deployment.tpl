{{/* A service's Deployment. Takes root, component, program, user, ports and, where there is one, tls: its Secret. */}}
{{- define "runcast.deployment" -}}
{{- $values := include "runcast.values" . | fromYaml -}}
{{- $scope := merge (dict "values" $values) . -}}
{{- $root := .root -}}
{{- $auth := $root.Values.auth -}}
{{- $name := printf "%s-%s" (include "runcast.fullname" $root) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "runcast.metadata" . | nindent 2 }}
spec:
  {{- if eq (dig "autoscaling" "mode" "off" $values) "off" }}
  replicas: {{ $values.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "runcast.selector" . | nindent 6 }}
  strategy:
    {{- if .recreate }}
    type: Recreate
    {{- else }}
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
    {{- end }}
  template:
    metadata:
      labels:
        {{- include "runcast.podLabels" . | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "runcast.config" . | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "runcast.serviceAccount" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        {{- include "runcast.podSecurity" (dict "uid" 65532) | nindent 8 }}
      {{- with include "runcast.placement" $scope | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "runcast.image" (dict "root" $root "image" $values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [--config, /etc/runcast/config/{{ .program }}.toml]
          securityContext:
            {{- include "runcast.containerSecurity" . | nindent 12 }}
          ports:
            {{- range $port, $number := .ports }}
            - {name: {{ $port }}, containerPort: {{ $number }}}
            {{- end }}
          env:
            {{- with include "runcast.redis.env" . }}
            {{- . | nindent 12 }}
            {{- end }}
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            - name: OTEL_RESOURCE_ATTRIBUTES
              value: k8s.pod.name=$(POD_NAME),k8s.namespace.name={{ $root.Release.Namespace }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with concat (default list .envFrom) $values.extraEnvFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          # Redis may be away when we start: that is no reason to be restarted.
          startupProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 1
            failureThreshold: 30
          livenessProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 10
            timeoutSeconds: 3
          readinessProbe:
            httpGet: {path: /readyz, port: admin}
            periodSeconds: 5
            timeoutSeconds: 3
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /etc/runcast/config, readOnly: true}
            {{- if include "runcast.redis.caSecret" $root }}
            - {name: redis-ca, mountPath: /etc/runcast/redis, readOnly: true}
            {{- end }}
            {{- if include "runcast.redis.clientCertSecret" $root }}
            - {name: redis-client, mountPath: /etc/runcast/redis-client, readOnly: true}
            {{- end }}
            {{- if .tls }}
            - {name: tls, mountPath: /etc/runcast/tls, readOnly: true}
            {{- end }}
            {{- if .clientCa }}
            - {name: clients, mountPath: /etc/runcast/clients, readOnly: true}
            {{- end }}
            {{- if and .auth (include "runcast.auth.secret" $root) }}
            - {name: auth, mountPath: /etc/runcast/auth, readOnly: true}
            {{- end }}
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
        {{- with $values.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        - name: config
          configMap:
            name: {{ $name }}
        {{- with include "runcast.redis.caSecret" $root }}
        - name: redis-ca
          secret:
            secretName: {{ . }}
            items: [{key: ca.crt, path: ca.crt}]
        {{- end }}
        {{- with include "runcast.redis.clientCertSecret" $root }}
        - name: redis-client
          secret:
            secretName: {{ . }}
        {{- end }}
        {{- with .tls }}
        - name: tls
          secret:
            secretName: {{ . }}
        {{- end }}
        {{- with .clientCa }}
        - name: clients
          secret:
            secretName: {{ . }}
            items: [{key: ca.crt, path: ca.crt}]
        {{- end }}
        {{- if .auth }}
        {{- with include "runcast.auth.secret" $root }}
        - name: auth
          secret:
            secretName: {{ . }}
            items: [{key: {{ $auth.key }}, path: {{ $auth.key }}}]
        {{- end }}
        {{- end }}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}

{{/* The Secret with the key that tokens are verified by; empty where there is none. */}}
{{- define "runcast.auth.secret" -}}
{{- if and (eq .Values.auth.mode "jwt") (not .Values.auth.jwksUrl) -}}
{{- default (printf "%s-auth" (include "runcast.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}
{{- end -}}
