{{/* What things are called. The objects have upstream's fixed names, so that whoever refers to them goes on working. */}}

{{- define "hyperpod-ebs.driver" -}}
ebs.csi.aws.com
{{- end }}

{{- define "hyperpod-ebs.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of every object. Where customLabels says the same label again, ours stays: selectors depend on it. */}}
{{- define "hyperpod-ebs.labels" -}}
{{- $ours := include "hyperpod-ebs.selector" . | fromYaml -}}
{{- $ours = merge $ours (dict
      "app.kubernetes.io/component" "csi-driver"
      "app.kubernetes.io/managed-by" .Release.Service
      "app.kubernetes.io/version" (.Chart.AppVersion | toString)
      "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")) -}}
{{- merge $ours (.Values.customLabels | default dict) | toYaml }}
{{- end }}

{{/* Labels of a pod, of (dict "root" $ "app" <its workload> "labels" <what is wanted besides>). */}}
{{- define "hyperpod-ebs.pod-labels" -}}
{{- merge (dict "app" .app) (include "hyperpod-ebs.labels" .root | fromYaml) (.labels | default dict) | toYaml }}
{{- end }}

{{- define "hyperpod-ebs.node-namespace" -}}
{{ .Values.node.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{/* The name of an image, of (dict "root" $ "image" <repository and tag>). */}}
{{- define "hyperpod-ebs.image" -}}
{{- $registry := .root.Values.image.containerRegistry | default "" -}}
{{- if $registry }}{{ $registry = printf "%s/" (trimSuffix "/" $registry) }}{{ end -}}
{{ printf "%s%s:%s" $registry .image.repository (.image.tag | toString) }}
{{- end }}

{{/* The driver's image. A values file of upstream's names the Go driver's, which ours stands in for. */}}
{{- define "hyperpod-ebs.driver-image" -}}
{{- $image := dict "repository" .Values.image.repository "tag" (.Values.image.tag | default .Chart.AppVersion) -}}
{{- if include "hyperpod-ebs.is-go-driver" . }}
{{- $image = dict "repository" .Chart.Name "tag" .Chart.AppVersion -}}
{{- end -}}
{{ include "hyperpod-ebs.image" (dict "root" . "image" $image) }}
{{- end }}

{{/* Whether image.repository is upstream's own default, in whichever registry. */}}
{{- define "hyperpod-ebs.is-go-driver" -}}
{{- if hasSuffix "/ebs-csi-driver/aws-ebs-csi-driver" (printf "/%s" .Values.image.repository) }}yes{{ end -}}
{{- end }}
