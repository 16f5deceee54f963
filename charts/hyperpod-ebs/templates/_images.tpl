{{/* The images: names, registries, and when they are pulled. */}}

{{/* The versions of the community's images for which arguments and rights were checked; values.yaml has the same. */}}
{{- define "hyperpod-ebs.versions" -}}
csi-attacher: v4.12.0
csi-node-driver-registrar: v2.17.0
csi-provisioner: v6.4.0
csi-resizer: v2.3.0
csi-snapshotter: v8.6.0
livenessprobe: v2.19.0
snapshot-controller: v8.6.0
{{- end }}

{{/* All images but the driver's, by their path in the values. */}}
{{- define "hyperpod-ebs.other-images" -}}
{{- $sidecars := .Values.sidecars -}}
{{- $images := dict -}}
{{- range $name, $runs := dict
      "provisioner" (not .Values.nodeComponentOnly)
      "attacher" (not .Values.nodeComponentOnly)
      "resizer" (not .Values.nodeComponentOnly)
      "snapshotter" (and (not .Values.nodeComponentOnly) (eq (include "hyperpod-ebs.snapshots" .) "yes"))
      "livenessProbe" $sidecars.livenessProbe.enabled
      "nodeDriverRegistrar" $sidecars.nodeDriverRegistrar.enabled -}}
{{- if $runs }}{{ $_ := set $images (printf "sidecars.%s" $name) (index $sidecars $name).image }}{{ end }}
{{- end -}}
{{- if .Values.snapshotController.enabled }}{{ $_ := set $images "snapshotController" .Values.snapshotController.image }}{{ end -}}
{{- toYaml $images }}
{{- end }}

{{/* Whether an image's name begins with a registry, by the rule of container runtimes. */}}
{{- define "hyperpod-ebs.names-registry" -}}
{{- $first := splitList "/" . | first -}}
{{- if and (contains "/" .) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) }}yes{{ end -}}
{{- end }}

{{/* Whether an image, of (dict "root" $ "image" <repository>), is a community image with upstream's name in a registry that
     image.containerRegistry replaces. The chart's own copy is used for it. */}}
{{- define "hyperpod-ebs.is-replaced" -}}
{{- $repository := .image.repository -}}
{{- if and .root.Values.image.containerRegistry (eq (include "hyperpod-ebs.names-registry" $repository) "yes") (regexMatch "/csi-components/[^/]+$" $repository) (hasKey (include "hyperpod-ebs.versions" . | fromYaml) (base $repository)) }}yes{{ end -}}
{{- end }}

{{/* The name of an image, of (dict "root" $ "image" <repository and tag>). Without image.containerRegistry, a name that
     has no registry is one of the publisher's images (Chart.yaml). */}}
{{- define "hyperpod-ebs.image" -}}
{{- $image := .image -}}
{{- if include "hyperpod-ebs.is-replaced" . }}
{{- $name := base $image.repository -}}
{{- $image = dict "repository" (printf "csi-components/%s" $name) "tag" (get (include "hyperpod-ebs.versions" . | fromYaml) $name) -}}
{{- end -}}
{{- $registry := .root.Values.image.containerRegistry | default "" -}}
{{- if and (not $registry) (not (include "hyperpod-ebs.names-registry" $image.repository)) }}
{{- $registry = index .root.Chart.Annotations "image-registry" -}}
{{- end -}}
{{- if $registry }}{{ $registry = printf "%s/" (trimSuffix "/" $registry) }}{{ end -}}
{{ printf "%s%s:%s" $registry $image.repository (toString $image.tag) }}
{{- end }}

{{/* The driver's image. It replaces the Go driver's, which upstream's values files name. */}}
{{- define "hyperpod-ebs.driver-image" -}}
{{- $image := dict "repository" .Values.image.repository "tag" (.Values.image.tag | default .Chart.AppVersion) -}}
{{- if include "hyperpod-ebs.is-go-driver" . }}
{{- $image = dict "repository" .Chart.Name "tag" .Chart.AppVersion -}}
{{- end -}}
{{ include "hyperpod-ebs.image" (dict "root" . "image" $image) }}
{{- end }}

{{/* Whether image.repository is upstream's default, in any registry. */}}
{{- define "hyperpod-ebs.is-go-driver" -}}
{{- if hasSuffix "/ebs-csi-driver/aws-ebs-csi-driver" (printf "/%s" .Values.image.repository) }}yes{{ end -}}
{{- end }}

{{/* The pull policy of (dict "image" <complete name> "policy" <the value>). For a name without a registry a runtime would
     ask a public registry, where any user can register the name, and these pods have a role at AWS. So such an image is
     never pulled, unless the value is Always. */}}
{{- define "hyperpod-ebs.pull-policy" -}}
{{- if and (eq .policy "IfNotPresent") (not (include "hyperpod-ebs.names-registry" .image)) }}Never{{ else }}{{ .policy }}{{ end -}}
{{- end }}
