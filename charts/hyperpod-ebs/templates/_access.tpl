{{/* The rights in Kubernetes. Each verb is here because the program's source uses it, in the version of values.yaml; no
     other verb is granted. Events need create and patch: client-go's recorder neither updates nor lists them. An object
     that is only watched needs list and watch, since an informer never gets a single object. */}}

{{- define "hyperpod-ebs.access" -}}
{{- $sidecars := .Values.sidecars -}}
{{- if not .Values.nodeComponentOnly }}
- role: ebs-external-provisioner-role
  binding: ebs-csi-provisioner-binding
  additional: {{ $sidecars.provisioner.additionalClusterRoleRules | default list | toJson }}
  rules:
    # A clone's source is read with get; the finalizer is added with patch.
    - {apiGroups: [""], resources: [persistentvolumes], verbs: [get, list, watch, create, patch, delete]}
    # The selected node is removed from a claim whose volume cannot be created there; a clone's source gets a finalizer.
    - {apiGroups: [""], resources: [persistentvolumeclaims], verbs: [get, list, watch, update]}
    - {apiGroups: [""], resources: [events], verbs: [create, patch]}
    # Topology; the driver itself watches the nodes for their instance types.
    - {apiGroups: [""], resources: [nodes], verbs: [list, watch]}
    - {apiGroups: [storage.k8s.io], resources: [csinodes], verbs: [list, watch]}
    - {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [list, watch]}
    # An attached volume is not deleted.
    - {apiGroups: [storage.k8s.io], resources: [volumeattachments], verbs: [list, watch]}
    {{- if include "hyperpod-ebs.modifies" . }}
    - {apiGroups: [storage.k8s.io], resources: [volumeattributesclasses], verbs: [get]}
    {{- end }}
    {{- if include "hyperpod-ebs.snapshots" . }}
    # A snapshot from which a volume is being created gets a finalizer.
    - {apiGroups: [snapshot.storage.k8s.io], resources: [volumesnapshots], verbs: [get, list, watch, update]}
    - {apiGroups: [snapshot.storage.k8s.io], resources: [volumesnapshotcontents], verbs: [get]}
    {{- end }}
- role: ebs-external-attacher-role
  binding: ebs-csi-attacher-binding
  additional: {{ $sidecars.attacher.additionalClusterRoleRules | default list | toJson }}
  rules:
    - {apiGroups: [""], resources: [persistentvolumes], verbs: [list, watch, patch]}
    - {apiGroups: [storage.k8s.io], resources: [csinodes], verbs: [list, watch]}
    - {apiGroups: [storage.k8s.io], resources: [volumeattachments], verbs: [list, watch, patch]}
    - {apiGroups: [storage.k8s.io], resources: [volumeattachments/status], verbs: [patch]}
- role: ebs-external-resizer-role
  binding: ebs-csi-resizer-binding
  additional: {{ $sidecars.resizer.additionalClusterRoleRules | default list | toJson }}
  rules:
    - {apiGroups: [""], resources: [persistentvolumes], verbs: [list, watch, patch]}
    - {apiGroups: [""], resources: [persistentvolumeclaims], verbs: [list, watch]}
    - {apiGroups: [""], resources: [persistentvolumeclaims/status], verbs: [patch]}
    {{- if include "hyperpod-ebs.resizer-lists-pods" . }}
    # With this flag it looks for pods that use a claim, and resizes nothing until it has listed all pods.
    - {apiGroups: [""], resources: [pods], verbs: [list, watch]}
    {{- end }}
    - {apiGroups: [""], resources: [events], verbs: [create, patch]}
    {{- if include "hyperpod-ebs.modifies" . }}
    - {apiGroups: [storage.k8s.io], resources: [volumeattributesclasses], verbs: [list, watch]}
    {{- end }}
{{- if include "hyperpod-ebs.snapshots" . }}
- role: ebs-external-snapshotter-role
  binding: ebs-csi-snapshotter-binding
  additional: {{ $sidecars.snapshotter.additionalClusterRoleRules | default list | toJson }}
  rules:
    - {apiGroups: [""], resources: [events], verbs: [create, patch]}
    - {apiGroups: [snapshot.storage.k8s.io], resources: [volumesnapshotclasses], verbs: [list, watch]}
    - {apiGroups: [snapshot.storage.k8s.io], resources: [volumesnapshotcontents], verbs: [get, list, watch, patch]}
    - {apiGroups: [snapshot.storage.k8s.io], resources: [volumesnapshotcontents/status], verbs: [update, patch]}
{{- end }}
{{- end }}
{{- end }}

{{/* A ClusterRole and its binding, of (dict "root" $ "row" <role, binding, rules, additional> "account" <name> "namespace" <its namespace>). */}}
{{- define "hyperpod-ebs.cluster-role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .row.role }}
  labels:
    {{- include "hyperpod-ebs.labels" .root | nindent 4 }}
rules:
  {{- concat .row.rules (.row.additional | default list) | toYaml | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .row.binding }}
  labels:
    {{- include "hyperpod-ebs.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .row.role }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .namespace }}
{{- end }}

{{/* The right to hold leases, of (dict "root" $ "name" <of the Role> "account" <service account> "leases" <names>). RBAC
     cannot restrict create to a name; get and update are restricted to these names. */}}
{{- define "hyperpod-ebs.leases" -}}
{{- $leases := dict "apiGroups" (list "coordination.k8s.io") "resources" (list "leases") -}}
{{- $rules := list
      (merge (dict "verbs" (list "create")) $leases)
      (merge (dict "verbs" (list "get" "update") "resourceNames" .leases) $leases) -}}
{{- include "hyperpod-ebs.role" (dict "root" .root "name" .name "account" .account "namespace" .root.Release.Namespace "rules" $rules) }}
{{- end }}

{{/* A Role in the release's namespace and its binding, of (dict "root" $ "name" <of the Role> "account" <service account> "namespace" <its namespace> "rules" <list>). */}}
{{- define "hyperpod-ebs.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}-role
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "hyperpod-ebs.labels" .root | nindent 4 }}
rules:
  {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}-rolebinding
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "hyperpod-ebs.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}-role
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .namespace }}
{{- end }}
