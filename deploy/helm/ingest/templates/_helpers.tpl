{{- define "ingest.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "ingest.selector" -}}
app.kubernetes.io/name: ingest
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "ingest.labels" -}}
{{ include "ingest.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "ingest.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ingest.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "ingest.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "ingest.secret" -}}
valueFrom:
  secretKeyRef: { name: {{ .name | quote }}, key: {{ .key | quote }} }
{{- end -}}

{{/* The environment of a role. Settings of the role win over those of both. */}}
{{- define "ingest.environment" -}}
{{- $values := .root.Values -}}
- name: INGEST_BASE_URL
  value: {{ $values.baseUrl | quote }}
- name: INGEST_LEDGER_DSN
  {{- include "ingest.secret" $values.secrets.ledgerDsn | nindent 2 }}
{{- if $values.secrets.ledgerDirectDsn.name }}
- name: INGEST_LEDGER_DIRECT_DSN
  {{- include "ingest.secret" $values.secrets.ledgerDirectDsn | nindent 2 }}
{{- end }}
- name: INGEST_VAULT_ENDPOINT
  value: {{ $values.vault.endpoint | quote }}
- name: INGEST_VAULT_REGION
  value: {{ $values.vault.region | quote }}
- name: INGEST_VAULT_BUCKET
  value: {{ $values.vault.bucket | quote }}
- name: INGEST_VAULT_ACCESS_KEY
  {{- include "ingest.secret" $values.secrets.vaultAccessKey | nindent 2 }}
- name: INGEST_VAULT_SECRET_KEY
  {{- include "ingest.secret" $values.secrets.vaultSecretKey | nindent 2 }}
- name: INGEST_SIGNING_KEY_FILE
  value: /keys/custody.pem
- name: INGEST_DRAIN_TIMEOUT_S
  value: {{ $values.drain.timeoutSeconds | quote }}
- name: INGEST_DRAIN_NOTICE_S
  value: {{ $values.drain.noticeSeconds | quote }}
{{- with $values.tracing }}
{{- if .endpoint }}
- name: INGEST_TRACING_ENDPOINT
  value: {{ .endpoint | quote }}
- name: INGEST_TRACING_SAMPLE_RATIO
  value: {{ .sampleRatio | quote }}
{{- end }}
{{- end }}
{{- if $values.secrets.tracingHeaders.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  {{- include "ingest.secret" $values.secrets.tracingHeaders | nindent 2 }}
{{- end }}
{{- range $name, $value := merge (dict) .settings $values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* What both roles have around their container: the key in memory, readable by us alone. */}}
{{- define "ingest.keyContainer" -}}
- name: key
  image: {{ include "ingest.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  # A Secret's file can be read by its group, and the service refuses such a key.
  command: [install, -m, "0600", /secret/custody.pem, /keys/custody.pem]
  securityContext: {{- include "ingest.containerSecurity" . | nindent 4 }}
  resources:
    requests: { cpu: 10m, memory: 16Mi }
    limits: { memory: 32Mi }
  volumeMounts:
    - { name: secret, mountPath: /secret, readOnly: true }
    - { name: keys, mountPath: /keys }
{{- end -}}

{{- define "ingest.volumes" -}}
- name: secret
  secret:
    secretName: {{ .Values.secrets.signingKey.name | quote }}
    defaultMode: 0440
    items: [{ key: {{ .Values.secrets.signingKey.key | quote }}, path: custody.pem }]
- name: keys
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
- name: tmp
  emptyDir: { sizeLimit: 64Mi }
{{- end -}}

{{- define "ingest.mounts" -}}
- { name: keys, mountPath: /keys, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- end -}}

{{- define "ingest.spread" -}}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "ingest.selector" . | nindent 6 }}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "ingest.selector" . | nindent 6 }}
{{- end -}}

{{/* Some seconds more than the process takes: SIGKILL is for what hangs. */}}
{{- define "ingest.grace" -}}
{{ add .Values.drain.preStopSeconds .Values.drain.timeoutSeconds 5 }}
{{- end -}}
