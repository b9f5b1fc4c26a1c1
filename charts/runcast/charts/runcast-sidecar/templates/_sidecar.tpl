{{/*
Attaches Runcast's sidecar to a pod of your own chart. In its values stands what the chart `runcast` prints after its
installation; here are all options with their defaults:

  runcast:
    redisUrl: ""                  # needed
    run: ""                       # run's name; empty: from the pod, as runFrom says
    runFrom: label                # label or annotation, `runcast/run`
    variation: ""                 # variation's name; empty: from the pod, as variationFrom says
    variationFrom: index          # label or annotation, `runcast/variation`; or index: `var-` and the Job's completion index
    variations: 0                 # how many the run has; 0: not known
    credentialsSecret: ""         # Secret with username and password; empty: runcast-run-RUN; "-": none
    ca: ""                        # ConfigMap or Secret with ca.crt; empty: the system's authorities
    unfinished: lost              # status where the agent did not say how it ended
    …

and in the pod's template, with native sidecars (Kubernetes 1.29):

  metadata:
    labels:
      {{- include "runcast.sidecar.labels" . | nindent 6 }}
  spec:
    initContainers:
      {{- include "runcast.sidecar" . | nindent 6 }}
    volumes:
      {{- include "runcast.sidecar.volumes" . | nindent 6 }}
*/}}

{{- define "runcast.sidecar.defaults" -}}
image: runcast/runcast-sidecar:0.1.0
imagePullPolicy: IfNotPresent
redisUrl: ""
run: ""
runFrom: label
variation: ""
variationFrom: index
variations: 0
credentialsSecret: ""
ca: ""
unfinished: lost
journalSize: 320Mi
otlpEndpoint: ""
args: [serve]
extraEnv: []
resources:
  requests: {cpu: 50m, memory: 64Mi}
  limits: {memory: 512Mi}
{{- end -}}

{{/* The options: those of `.Values.runcast`, or the dict itself where it has redisUrl. */}}
{{- define "runcast.sidecar.options" -}}
{{- $given := . -}}
{{- if hasKey . "Values" -}}{{- $given = get .Values "runcast" | default dict -}}{{- end -}}
{{- $options := mergeOverwrite (include "runcast.sidecar.defaults" . | fromYaml) (deepCopy $given) -}}
{{- $_ := required "runcast.redisUrl is needed: the address of Runcast's Redis" $options.redisUrl -}}
{{- toYaml $options -}}
{{- end -}}

{{/* The Secret with Redis' user and password; empty for none. */}}
{{- define "runcast.sidecar.secret" -}}
{{- $options := include "runcast.sidecar.options" . | fromYaml -}}
{{- if not $options.credentialsSecret -}}
{{- printf "runcast-run-%s" (required "runcast.run or runcast.credentialsSecret is needed" $options.run) -}}
{{- else if ne $options.credentialsSecret "-" -}}
{{- $options.credentialsSecret -}}
{{- end -}}
{{- end -}}

{{- define "runcast.sidecar.labels" -}}
{{- $options := include "runcast.sidecar.options" . | fromYaml -}}
runcast/attach: "true"
{{- if and $options.run (eq $options.runFrom "label") }}
runcast/run: {{ $options.run | quote }}
{{- end }}
{{- end -}}

{{/* The sidecar's environment, also for a container that is started by `runcast-sidecar exec`. */}}
{{- define "runcast.sidecar.env" -}}
{{- $options := include "runcast.sidecar.options" . | fromYaml -}}
- name: RUNCAST__RUN__ID
  {{- if $options.run }}
  value: {{ $options.run | quote }}
  {{- else }}
  valueFrom:
    fieldRef:
      fieldPath: metadata.{{ $options.runFrom }}s['runcast/run']
  {{- end }}
{{- if $options.variation }}
- name: RUNCAST__RUN__VARIATION
  value: {{ $options.variation | quote }}
{{- else if eq $options.variationFrom "index" }}
- name: RUNCAST_INDEX
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
- name: RUNCAST__RUN__VARIATION
  value: var-$(RUNCAST_INDEX)
{{- else }}
- name: RUNCAST__RUN__VARIATION
  valueFrom:
    fieldRef:
      fieldPath: metadata.{{ $options.variationFrom }}s['runcast/variation']
{{- end }}
{{- if $options.variations }}
- name: RUNCAST__RUN__VARIATIONS
  value: {{ $options.variations | toString | quote }}
{{- end }}
- name: RUNCAST__REDIS__URL
  value: {{ $options.redisUrl | quote }}
{{- with include "runcast.sidecar.secret" . }}
- name: RUNCAST__REDIS__USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: username
# A file, for it changes when the password is rotated.
- name: RUNCAST__REDIS__PASSWORD_FILE
  value: /etc/runcast/credentials/password
{{- end }}
{{- if $options.ca }}
- name: RUNCAST__REDIS__CA_FILE
  value: /etc/runcast/redis/ca.crt
{{- end }}
- name: RUNCAST__JOURNAL__FOLDER
  value: /var/lib/runcast/journal
- name: RUNCAST__SERVE__UNFINISHED
  value: {{ $options.unfinished | quote }}
- name: RUNCAST__ADMIN__LISTEN
  value: 0.0.0.0:7781
{{- with $options.otlpEndpoint }}
- name: RUNCAST__TELEMETRY__OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with $options.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "runcast.sidecar.mounts" -}}
{{- $options := include "runcast.sidecar.options" . | fromYaml -}}
- name: runcast-journal
  mountPath: /var/lib/runcast/journal
{{- if include "runcast.sidecar.secret" . }}
- name: runcast-credentials
  mountPath: /etc/runcast/credentials
  readOnly: true
{{- end }}
{{- if $options.ca }}
- name: runcast-ca
  mountPath: /etc/runcast/redis
  readOnly: true
{{- end }}
{{- end -}}

{{- define "runcast.sidecar.volumes" -}}
{{- $options := include "runcast.sidecar.options" . | fromYaml -}}
- name: runcast-journal
  emptyDir:
    sizeLimit: {{ $options.journalSize }}
{{- with include "runcast.sidecar.secret" . }}
- name: runcast-credentials
  secret:
    secretName: {{ . | quote }}
    items:
      - key: password
        path: password
{{- end }}
{{- if $options.ca }}
- name: runcast-ca
  projected:
    sources:
      # Whichever of them there is.
      - configMap:
          name: {{ $options.ca }}
          optional: true
          items:
            - key: ca.crt
              path: ca.crt
      - secret:
          name: {{ $options.ca }}
          optional: true
          items:
            - key: ca.crt
              path: ca.crt
{{- end }}
{{- end -}}

{{/* The native sidecar: an item of initContainers. */}}
{{- define "runcast.sidecar" -}}
{{- $options := include "runcast.sidecar.options" . | fromYaml -}}
- name: runcast-sidecar
  image: {{ $options.image }}
  imagePullPolicy: {{ $options.imagePullPolicy }}
  # Started before the agent, ended after it, and no reason for the Job to wait.
  restartPolicy: Always
  args:
    {{- toYaml $options.args | nindent 4 }}
  ports:
    - name: runcast-admin
      containerPort: 7781
  env:
    {{- include "runcast.sidecar.env" . | nindent 4 }}
  # The agent is started when there is somebody to speak to.
  startupProbe:
    httpGet:
      path: /livez
      port: runcast-admin
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    httpGet:
      path: /livez
      port: runcast-admin
    periodSeconds: 10
    timeoutSeconds: 3
  resources:
    {{- toYaml $options.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    runAsUser: 65532
    capabilities:
      drop:
        - ALL
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    {{- include "runcast.sidecar.mounts" . | nindent 4 }}
{{- end -}}
