{{/* Values that several objects follow from, each with its one rule. */}}

{{/* The fields of an ARN by name, of an ARN or of "". */}}
{{- define "hyperpod-ebs.cluster" -}}
{{- $said := .Values.hyperpod.clusterArn | default "" -}}
{{- $parts := splitList ":" (printf "%s::::::" $said) -}}
partition: {{ .Values.hyperpod.partition | default (index $parts 1) | quote }}
region: {{ .Values.controller.region | default .Values.hyperpod.region | default (index $parts 3) | quote }}
account: {{ .Values.hyperpod.account | default (index $parts 4) | toString | quote }}
{{- end }}

{{/* Whether the snapshotter runs: it cannot without its CRDs. */}}
{{- define "hyperpod-ebs.snapshots" -}}
{{- if or .Values.sidecars.snapshotter.forceEnable (include "hyperpod-ebs.snapshot-crds" .) }}yes{{ end -}}
{{- end }}

{{- define "hyperpod-ebs.snapshot-crds" -}}
{{- if .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1" }}yes{{ end -}}
{{- end }}

{{/* The version under which the cluster serves VolumeAttributesClass, or nothing. A cluster lists kinds, `helm template`
     without one does not: then Kubernetes' version tells. */}}
{{- define "hyperpod-ebs.attributes-class-api" -}}
{{- $apis := .Capabilities.APIVersions -}}
{{- if $apis.Has "storage.k8s.io/v1/StorageClass" }}
{{- range list "v1" "v1beta1" }}
{{- if $apis.Has (printf "storage.k8s.io/%s/VolumeAttributesClass" .) }}storage.k8s.io/{{ . }}{{ break }}{{ end }}
{{- end }}
{{- else if semverCompare ">=1.34.0-0" .Capabilities.KubeVersion.Version }}storage.k8s.io/v1
{{- end }}
{{- end }}

{{/* The sidecars of these versions know VolumeAttributesClass as v1 only, and would wait for it for ever. */}}
{{- define "hyperpod-ebs.modifies" -}}
{{- if eq (include "hyperpod-ebs.attributes-class-api" .) "storage.k8s.io/v1" }}yes{{ end -}}
{{- end }}

{{/* Seconds between kubelet's questions for the attach limit, or nothing. */}}
{{- define "hyperpod-ebs.limit-period" -}}
{{- $period := .Values.nodeAllocatableUpdatePeriodSeconds -}}
{{- if and (ne $period nil) (semverCompare ">=1.33.0-0" .Capabilities.KubeVersion.Version) }}
{{- if lt (int $period) 0 }}10{{ else if gt (int $period) 0 }}{{ int $period }}{{ end }}
{{- end }}
{{- end }}

{{/* How much a container logs, of (dict "root" $ "level" <its own>). */}}
{{- define "hyperpod-ebs.log-level" -}}
{{ ternary 7 (int .level) (default false .root.Values.debugLogs) }}
{{- end }}
