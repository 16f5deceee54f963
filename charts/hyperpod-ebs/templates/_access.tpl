{{/* Who may do what in Kubernetes: each verb is there because the named program's source calls it, and no other is.
     The sources are those of the versions in values.yaml. Events take create and patch: client-go's recorder updates
     none, and lists none. What is only watched takes list and watch, for an informer never gets a single object. */}}

{{- define "hyperpod-ebs.access" -}}
{{- $sidecars := .Values.sidecars -}}
{{- if not .Values.nodeComponentOnly }}
- role: ebs-external-provisioner-role
  binding: ebs-csi-provisioner-binding
  additional: {{ $sidecars.provisioner.additionalClusterRoleRules | default list | toJson }}
  rules:
    # A clone's source is fetched by itself; the finalizer is patched on.
    - {apiGroups: [""], resources: [persistentvolumes], verbs: [get, list, watch, create, patch, delete]}
    # The chosen node is taken off a claim whose volume cannot be made there, and a clone's source is protected.
    - {apiGroups: [""], resources: [persistentvolumeclaims], verbs: [get, list, watch, update]}
    - {apiGroups: [""], resources: [events], verbs: [create, patch]}
    # Topology.
    - {apiGroups: [""], resources: [nodes], verbs: [list, watch]}
    - {apiGroups: [storage.k8s.io], resources: [csinodes], verbs: [list, watch]}
    - {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [list, watch]}
    # A volume that is attached is not deleted.
    - {apiGroups: [storage.k8s.io], resources: [volumeattachments], verbs: [list, watch]}
    {{- if include "hyperpod-ebs.modifies" . }}
    - {apiGroups: [storage.k8s.io], resources: [volumeattributesclasses], verbs: [get]}
    {{- end }}
    {{- if include "hyperpod-ebs.snapshots" . }}
    # A snapshot that a volume is being made of is protected.
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
    {{- if include "hyperpod-ebs.resizer-asks-for-pods" . }}
    # Told so, it asks who uses a claim, and resizes none until it knows all pods. With ours, it does not.
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

{{/* The right to hold leases, of (dict "root" $ "name" <of the Role> "account" <who> "leases" <names>). A lease is made
     once, and who makes has no name to be held to; it is read and held by its name alone. */}}
{{- define "hyperpod-ebs.leases" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}-role
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "hyperpod-ebs.labels" .root | nindent 4 }}
rules:
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [create]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    resourceNames:
      {{- toYaml .leases | nindent 6 }}
    verbs: [get, update]
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
    namespace: {{ .root.Release.Namespace }}
{{- end }}
