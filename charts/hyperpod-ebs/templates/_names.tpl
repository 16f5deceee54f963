{{/* Names and labels. The objects have upstream's fixed names, so that references to them keep working. */}}

{{- define "hyperpod-ebs.driver" -}}
ebs.csi.aws.com
{{- end }}

{{- define "hyperpod-ebs.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels that the chart gives every object. */}}
{{- define "hyperpod-ebs.own-labels" -}}
{{- $own := include "hyperpod-ebs.selector" . | fromYaml -}}
{{- merge $own (dict
      "app.kubernetes.io/component" "csi-driver"
      "app.kubernetes.io/managed-by" .Release.Service
      "app.kubernetes.io/version" (.Chart.AppVersion | toString)
      "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")) | toYaml }}
{{- end }}

{{/* Labels of every object. The chart's own labels win over customLabels, because selectors depend on them. */}}
{{- define "hyperpod-ebs.labels" -}}
{{- merge (include "hyperpod-ebs.own-labels" . | fromYaml) (.Values.customLabels | default dict) | toYaml }}
{{- end }}

{{/* Labels of a pod, of (dict "root" $ "app" <its workload> "labels" <additional labels>). */}}
{{- define "hyperpod-ebs.pod-labels" -}}
{{- merge (dict "app" .app) (include "hyperpod-ebs.labels" .root | fromYaml) (.labels | default dict) | toYaml }}
{{- end }}

{{/* The ConfigMap of the attach limits, in the release's namespace. */}}
{{- define "hyperpod-ebs.attach-limits" -}}
ebs-csi-attach-limits
{{- end }}

{{- define "hyperpod-ebs.attach-limits-flag" -}}
--attach-limits-configmap={{ .Release.Namespace }}/{{ include "hyperpod-ebs.attach-limits" . }}
{{- end }}

{{- define "hyperpod-ebs.node-namespace" -}}
{{ .Values.node.namespaceOverride | default .Release.Namespace }}
{{- end }}
