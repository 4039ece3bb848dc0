{{/* Names. Everything is <release>-<component>; 40 characters leave room for what Kubernetes appends to pod names. */}}
{{- define "millpond.fullname" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "millpond.operator" -}}{{ include "millpond.fullname" . }}-operator{{- end -}}
{{- define "millpond.nats" -}}{{ include "millpond.fullname" . }}-nats{{- end -}}
{{- define "millpond.uninstall" -}}{{ include "millpond.fullname" . }}-uninstall{{- end -}}

{{- define "millpond.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "millpond.operator" .) -}}
{{- else -}}
{{- required "serviceAccount.create is false, so serviceAccount.name must name an account that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels: call with (list $ "component"). */}}
{{- define "millpond.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: millpond
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "millpond.labels" -}}
{{- $root := index . 0 -}}
{{ include "millpond.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "millpond.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Where the broker is. `.svc` without the cluster's domain: the resolver's search list completes it in any cluster. */}}
{{- define "millpond.natsUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "millpond.nats" . }}.{{ .Release.Namespace }}.svc:{{ .Values.nats.port }}
{{- else -}}
{{ .Values.nats.url }}
{{- end -}}
{{- end -}}

{{/* "8Gi" as Mi, less a tenth: a full file system would stop JetStream, its own limit only refuses what is new. */}}
{{- define "millpond.maxFileStore" -}}
{{- $size := .Values.nats.storage.size -}}
{{- $number := regexFind "^[0-9]+" $size | int64 -}}
{{- $factor := get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[A-Za-z]+$" $size) | int64 -}}
{{- div (mul $number $factor 9) 10 -}}Mi
{{- end -}}

{{/* What one user, one file system and no rights look like; the same for every pod of the chart. */}}
{{- define "millpond.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "millpond.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Mistakes that a schema can't put into a sentence. Included once, by the operator's Deployment. */}}
{{- define "millpond.validate" -}}
{{- if and .Values.nats.enabled .Values.nats.url -}}
{{- fail "nats.url names your own server, but nats.enabled would install another one: set nats.enabled=false, or clear nats.url" -}}
{{- end -}}
{{- if and (not .Values.nats.enabled) (not .Values.nats.url) -}}
{{- fail "nats.enabled is false, so nats.url must name your NATS server (2.14.5 or newer, JetStream on), e.g. nats.url=nats://nats.example:4222" -}}
{{- end -}}
{{- if and .Values.nats.enabled (gt (int .Values.streams.replicas) 1) -}}
{{- fail (printf "streams.replicas is %d, but the embedded NATS is one server: keep 1, or set nats.enabled=false and nats.url to a NATS cluster" (int .Values.streams.replicas)) -}}
{{- end -}}
{{- end -}}
