{{/*
What the operator may do to pools, tasks, workers and their pods: the rules of a ClusterRole, or of a Role in the one
namespace served. Verbs and resources are spelt out, so that a new right is a line in a diff.
*/}}
{{- define "millpond.operatorRules" -}}
- apiGroups: [millpond.dev]
  resources: [workerpools]
  verbs: [get, list, watch, patch, update]
- apiGroups: [millpond.dev]
  resources: [tasks]
  verbs: [get, list, watch, patch, update, delete]
- apiGroups: [millpond.dev]
  resources: [workers]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [millpond.dev]
  resources: [poolgroups, supervisors]
  verbs: [get, list, watch]
- apiGroups: [millpond.dev]
  resources: [poolgroups/status, supervisors/status, workerpools/status, tasks/status, workers/status]
  verbs: [get, patch, update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch, update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What the uninstall Job may do, in the cluster or in the one namespace served. */}}
{{- define "millpond.uninstallRules" -}}
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, delete]
{{- end -}}
