{{/* Settings that several objects use, each with its rule. */}}

{{/* Partition, region and account of the HyperPod cluster, from the values or the cluster's ARN. */}}
{{- define "hyperpod-ebs.cluster" -}}
{{- $arn := .Values.hyperpod.clusterArn | default "" -}}
{{- $parts := splitList ":" (printf "%s::::::" $arn) -}}
partition: {{ .Values.hyperpod.partition | default (index $parts 1) | quote }}
region: {{ .Values.controller.region | default .Values.hyperpod.region | default (index $parts 3) | quote }}
account: {{ .Values.hyperpod.account | default (index $parts 4) | toString | quote }}
{{- end }}

{{/* The port of the controller's metrics. */}}
{{- define "hyperpod-ebs.metrics-port" -}}
{{ regexFind "[0-9]+$" (.Values.controller.httpEndpoint | default "") | default "3301" }}
{{- end }}

{{/* The port of a URL: explicit, or its scheme's default. */}}
{{- define "hyperpod-ebs.port" -}}
{{ regexFind ":[0-9]+/?$" . | trimPrefix ":" | trimSuffix "/" | default (ternary "443" "80" (hasPrefix "https:" .)) }}
{{- end }}

{{/* The update strategy of a workload. Helm merges the user's map with the default, and Kubernetes accepts rollingUpdate with only one type. */}}
{{- define "hyperpod-ebs.update-strategy" -}}
{{- $strategy := . | default dict -}}
{{- if ne ($strategy.type | default "RollingUpdate") "RollingUpdate" }}{{ $strategy = omit $strategy "rollingUpdate" }}{{ end -}}
{{- toYaml $strategy }}
{{- end }}

{{/* The value of a boolean flag, of (dict "flag" <its name> "arguments" <list>): the last one counts. "" if none sets it. */}}
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

{{/* Whether the resizer is configured to look for pods that use a claim. */}}
{{- define "hyperpod-ebs.resizer-lists-pods" -}}
{{- if eq (include "hyperpod-ebs.flag" (dict "flag" "handle-volume-inuse-error" "arguments" .Values.sidecars.resizer.additionalArgs)) "true" }}yes{{ end -}}
{{- end }}

{{/* The ARN of the controller's role, from hyperpod.role or the annotation. */}}
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

{{/* Whether the snapshotter runs: it needs its CRDs. */}}
{{- define "hyperpod-ebs.snapshots" -}}
{{- if or .Values.sidecars.snapshotter.forceEnable (include "hyperpod-ebs.snapshot-crds" .) }}yes{{ end -}}
{{- end }}

{{- define "hyperpod-ebs.snapshot-crds" -}}
{{- if .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1" }}yes{{ end -}}
{{- end }}

{{/* The API version of VolumeAttributesClass in the cluster, or nothing. A cluster lists its kinds. `helm template` without
     a cluster has no list: then it follows from the Kubernetes version. */}}
{{- define "hyperpod-ebs.attributes-class-api" -}}
{{- $apis := .Capabilities.APIVersions -}}
{{- if $apis.Has "storage.k8s.io/v1/StorageClass" }}
{{- range list "v1" "v1beta1" }}
{{- if $apis.Has (printf "storage.k8s.io/%s/VolumeAttributesClass" .) }}storage.k8s.io/{{ . }}{{ break }}{{ end }}
{{- end }}
{{- else if semverCompare ">=1.34.0-0" .Capabilities.KubeVersion.Version }}storage.k8s.io/v1
{{- end }}
{{- end }}

{{/* Whether the sidecars modify volumes. These versions use only v1 of VolumeAttributesClass and would wait for it for ever. */}}
{{- define "hyperpod-ebs.modifies" -}}
{{- if eq (include "hyperpod-ebs.attributes-class-api" .) "storage.k8s.io/v1" }}yes{{ end -}}
{{- end }}

{{/* Seconds between kubelet's requests for the attach limit, or nothing. */}}
{{- define "hyperpod-ebs.limit-period" -}}
{{- $period := .Values.nodeAllocatableUpdatePeriodSeconds -}}
{{- if and (ne $period nil) (semverCompare ">=1.33.0-0" .Capabilities.KubeVersion.Version) }}
{{- if lt (int $period) 0 }}10{{ else if gt (int $period) 0 }}{{ int $period }}{{ end }}
{{- end }}
{{- end }}

{{/* The log level of a container, of (dict "root" $ "level" <its own>). */}}
{{- define "hyperpod-ebs.log-level" -}}
{{ ternary 7 (int .level) (default false .root.Values.debugLogs) }}
{{- end }}

{{/* The StorageClass of `helm test`; nothing for the cluster's default. */}}
{{- define "hyperpod-ebs.test-class" -}}
{{- if .Values.storageClasses }}{{ (first .Values.storageClasses).name }}
{{- else if .Values.defaultStorageClass.enabled }}ebs-csi-default-sc
{{- end }}
{{- end }}
