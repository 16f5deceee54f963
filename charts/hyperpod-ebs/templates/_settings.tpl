{{/* Values that several objects follow from, each with its one rule. */}}

{{/* The fields of an ARN by name, of an ARN or of "". */}}
{{- define "hyperpod-ebs.cluster" -}}
{{- $said := .Values.hyperpod.clusterArn | default "" -}}
{{- $parts := splitList ":" (printf "%s::::::" $said) -}}
partition: {{ .Values.hyperpod.partition | default (index $parts 1) | quote }}
region: {{ .Values.controller.region | default .Values.hyperpod.region | default (index $parts 3) | quote }}
account: {{ .Values.hyperpod.account | default (index $parts 4) | toString | quote }}
{{- end }}

{{/* The port of the controller's metrics. */}}
{{- define "hyperpod-ebs.metrics-port" -}}
{{ regexFind "[0-9]+$" (.Values.controller.httpEndpoint | default "") | default "3301" }}
{{- end }}

{{/* The port of a URL, said in it or its scheme's. */}}
{{- define "hyperpod-ebs.port" -}}
{{ regexFind ":[0-9]+/?$" . | trimPrefix ":" | trimSuffix "/" | default (ternary "443" "80" (hasPrefix "https:" .)) }}
{{- end }}

{{/* How a workload is rolled out. Helm merges a map with the default's, and Kubernetes takes rollingUpdate with one type only. */}}
{{- define "hyperpod-ebs.update-strategy" -}}
{{- $strategy := . | default dict -}}
{{- if ne ($strategy.type | default "RollingUpdate") "RollingUpdate" }}{{ $strategy = omit $strategy "rollingUpdate" }}{{ end -}}
{{- toYaml $strategy }}
{{- end }}

{{/* The value of a boolean flag, of (dict "flag" <its name> "arguments" <list>): the last counts. "" where none sets it. */}}
{{- define "hyperpod-ebs.flag" -}}
{{- $value := "" -}}
{{- $flag := .flag -}}
{{- range .arguments }}
{{- $parts := splitn "=" 2 . -}}
{{- if eq (trimAll "-" $parts._0) $flag }}
{{- $value = ternary "true" "false" (has ($parts._1 | default "true") (list "1" "t" "T" "true" "TRUE" "True")) -}}
{{- end -}}
{{- end -}}
{{- $value }}
{{- end }}

{{/* Whether the resizer is made to look who uses a claim. */}}
{{- define "hyperpod-ebs.resizer-asks-for-pods" -}}
{{- if eq (include "hyperpod-ebs.flag" (dict "flag" "handle-volume-inuse-error" "arguments" .Values.sidecars.resizer.additionalArgs)) "true" }}yes{{ end -}}
{{- end }}

{{/* The ARN of the controller's role, by whichever value says it. */}}
{{- define "hyperpod-ebs.role-arn" -}}
{{ .Values.hyperpod.role.arn | default (get (.Values.controller.serviceAccount.annotations | default dict) "eks.amazonaws.com/role-arn") }}
{{- end }}

{{/* The partition of a region. */}}
{{- define "hyperpod-ebs.partition-of" -}}
{{- $region := . -}}
{{- $found := "aws" -}}
{{- range $prefix, $partition := dict
      "cn-" "aws-cn" "us-gov-" "aws-us-gov" "us-iso-" "aws-iso" "us-isob-" "aws-iso-b" "eu-isoe-" "aws-iso-e"
      "us-isof-" "aws-iso-f" "eusc-" "aws-eusc" -}}
{{- if hasPrefix $prefix $region }}{{ $found = $partition }}{{ end -}}
{{- end -}}
{{- $found }}
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

{{/* The StorageClass that `helm test` makes a volume of; nothing where it is left to the cluster. */}}
{{- define "hyperpod-ebs.test-class" -}}
{{- if .Values.storageClasses }}{{ (first .Values.storageClasses).name }}
{{- else if .Values.defaultStorageClass.enabled }}ebs-csi-default-sc
{{- end }}
{{- end }}
