{{/* Labels of everything that the chart makes. Takes the component. */}}
{{- define "weft.labels" -}}
{{ include "weft.selector" . }}
app.kubernetes.io/part-of: weft
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels that select a component's pods; they never change, as a Deployment's selector cannot. */}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: weft-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* An image: `override` if it is set, else that of the component. */}}
{{- define "weft.image" -}}
{{- $tag := .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- .override | default (printf "%s/weft-%s:%s" .root.Values.image.registry .component $tag) -}}
{{- end }}

{{/* Namespaces that the webhook leaves alone. */}}
{{- define "weft.excludedNamespaces" -}}
{{- append .Values.injector.excludedNamespaces .Release.Namespace | uniq | join "," -}}
{{- end }}

{{/* The pod-level half of the restricted pod security standard. */}}
{{- define "weft.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65102
runAsGroup: 65102
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The container-level half of it. */}}
{{- define "weft.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Replicas apart from each other, where there are several nodes. Takes component and values. */}}
{{- define "weft.affinity" -}}
{{- if .values.affinity }}
{{- toYaml .values.affinity }}
{{- else }}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "weft.selector" . | nindent 12 }}
    - weight: 50
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        labelSelector:
          matchLabels:
            {{- include "weft.selector" . | nindent 12 }}
{{- end }}
{{- end }}

{{/* Metadata of a component's pods. Takes component and values. */}}
{{- define "weft.podMetadata" -}}
labels:
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "weft.labels" . | nindent 2 }}
  weft.mesh/inject: disabled
annotations:
  kubectl.kubernetes.io/default-container: {{ .component }}
  {{- if .root.Values.scrapeAnnotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: "8080"
  prometheus.io/path: /metrics
  {{- end }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where a component's pods may run. Takes component and values. */}}
{{- define "weft.placement" -}}
affinity:
  {{- include "weft.affinity" . | trim | nindent 2 }}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .values.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Health and metrics, the same in both. */}}
{{- define "weft.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* What the webhooks have in common. Takes the path. */}}
{{- define "weft.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: weft-injector
    namespace: {{ .root.Release.Namespace }}
    path: {{ .path }}
    port: 443
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE]
    scope: Namespaced
matchPolicy: Equivalent
failurePolicy: {{ .root.Values.injector.failurePolicy }}
# Once more when a later webhook has changed the pod, as one that adds containers does.
reinvocationPolicy: IfNeeded
sideEffects: None
timeoutSeconds: {{ .root.Values.injector.timeoutSeconds }}
{{- end }}
