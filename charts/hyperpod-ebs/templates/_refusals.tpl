{{/* What cannot be honoured, refused by name: a value that is taken and does nothing would be a lie. */}}

{{/* Each refusal as a line; "" where the values are fine. */}}
{{- define "hyperpod-ebs.refusals" -}}
{{- $values := .Values -}}
{{- $controller := .Values.controller -}}
{{- $hyperpod := .Values.hyperpod -}}
{{- if $values.fips }}
fips is refused: the TLS of this image is not a validated FIPS module. For AWS's FIPS endpoints alone, leave fips false and put AWS_USE_FIPS_ENDPOINT=true into controller.env
{{- end }}
{{- if $values.a1CompatibilityDaemonSet }}
a1CompatibilityDaemonSet is refused: the image does not run on A1 instances. Set it to false; node.affinity keeps the driver off them
{{- end }}
{{- if $controller.volumeModificationFeature.enabled }}
controller.volumeModificationFeature.enabled is refused: there is no volume modifier. Set it to false and change volumes through a VolumeAttributesClass (volumeAttributesClasses)
{{- end }}
{{- if $controller.enableNodeLocalVolumes }}
controller.enableNodeLocalVolumes is refused: the driver attaches every volume itself. Set it to false
{{- end }}
{{- if $values.sidecars.metadataLabeler.enabled }}
sidecars.metadataLabeler.enabled is refused: there is no metadata labeler. Set it to false; a HyperPod node is counted by SageMaker's labels, an EC2 node by its instance metadata
{{- end }}
{{- range $name, $tracing := dict "controller" $controller.otelTracing "node" $values.node.otelTracing }}
{{- if $tracing }}
{{ $name }}.otelTracing is refused: the driver sends no traces. Leave it empty; metrics are {{ $name }}.enableMetrics
{{- end }}
{{- end }}
{{- if and (ne $values.image.repository "aws-ebs-csi-driver") (hasSuffix "/aws-ebs-csi-driver" $values.image.repository) (not (include "hyperpod-ebs.is-go-driver" .)) }}
image.repository is refused: {{ $values.image.repository }} is a copy of the Go driver, which does not know this chart's arguments. Push hyperpod-ebs to your registry and name that, or leave image.repository out and set image.containerRegistry
{{- end }}
{{- if and $values.image.containerRegistry (include "hyperpod-ebs.names-registry" $values.image.repository) (not (hasSuffix "/aws-ebs-csi-driver" $values.image.repository)) }}
image.repository is refused: {{ $values.image.repository }} names a registry, and image.containerRegistry would come before it. Leave out one of the two registries
{{- end }}
{{- range $name, $image := include "hyperpod-ebs.beside" . | fromYaml }}
{{- if and $values.image.containerRegistry (include "hyperpod-ebs.names-registry" $image.repository) (not (include "hyperpod-ebs.is-stood-in-for" (dict "root" $ "image" $image))) }}
{{ $name }}.image.repository is refused: {{ $image.repository }} names a registry, and image.containerRegistry would come before it. Leave {{ $name }}.image out and copy the chart's image to yours, or leave image.containerRegistry out and write all names whole
{{- end }}
{{- end }}
{{- range $name, $arguments := dict "sidecars.snapshotter" $values.sidecars.snapshotter.additionalArgs "snapshotController" $values.snapshotController.additionalArgs }}
{{- range $arguments }}
{{- if regexMatch "^--?feature-gates=(.*,)?CSIVolumeGroupSnapshot=(1|[tT]|true|TRUE|True)(,|$)" . }}
{{ $name }}.additionalArgs is refused: {{ . }} asks for group snapshots, which the driver does not make, and without rights for them no snapshot would be made at all. Leave it out
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $value := $controller.extraVolumeTags }}
{{- if or (contains "," $key) (contains "=" $key) (contains "," (toString $value)) }}
controller.extraVolumeTags is refused: the tag {{ $key }} has a comma or an equals sign that the driver's --extra-tags cannot carry. Choose another key or value
{{- end }}
{{- end }}
{{- if and $controller.region $hyperpod.region (ne $controller.region $hyperpod.region) }}
hyperpod.region is refused: it is {{ $hyperpod.region }}, and controller.region {{ $controller.region }}. Say one of them
{{- end }}
{{- with $hyperpod.clusterArn }}
{{- $parts := splitList ":" (printf "%s::::::" .) }}
{{- range $field, $said := dict "partition" (list $hyperpod.partition (index $parts 1)) "region" (list (default $controller.region $hyperpod.region) (index $parts 3)) "account" (list ($hyperpod.account | default "" | toString) (index $parts 4)) }}
{{- if and (first $said) (ne (first $said) (last $said)) }}
hyperpod.clusterArn is refused: its {{ $field }} is {{ last $said }}, and the values say {{ first $said }}. Leave out hyperpod.{{ $field }}, or mend the ARN
{{- end }}
{{- end }}
{{- end }}
{{- $annotated := get ($controller.serviceAccount.annotations | default dict) "eks.amazonaws.com/role-arn" }}
{{- if and $hyperpod.role.arn $annotated (ne $hyperpod.role.arn $annotated) }}
hyperpod.role.arn is refused: it is {{ $hyperpod.role.arn }}, and controller.serviceAccount.annotations has {{ $annotated }}. Say one of them
{{- end }}
{{- if and $hyperpod.role.arn (eq $hyperpod.role.through "irsa") (not $controller.serviceAccount.create) }}
hyperpod.role.arn is refused: controller.serviceAccount.create is false, and the annotation belongs to the service account. Annotate yours with eks.amazonaws.com/role-arn, or set hyperpod.role.through to podIdentity
{{- end }}
{{- with $controller.podDisruptionBudget }}
{{- if and .enabled (ne .maxUnavailable nil) (ne .minAvailable nil) }}
controller.podDisruptionBudget.maxUnavailable is refused: it is {{ .maxUnavailable }}, and minAvailable {{ .minAvailable }}; Kubernetes takes one of them. Leave out the other
{{- end }}
{{- end }}
{{- range tuple "provisioner" "attacher" "resizer" }}
{{- if and (not (index $values.sidecars . "leaderElection").enabled) (gt (int $controller.replicaCount) 1) }}
sidecars.{{ . }}.leaderElection.enabled is refused: it is false with controller.replicaCount {{ $controller.replicaCount }}, and all replicas would act at once. Set it to true, or controller.replicaCount to 1
{{- end }}
{{- end }}
{{- include "hyperpod-ebs.node-refusals" (dict "name" "node" "node" $values.node) }}
{{- range $name, $differs := $values.additionalDaemonSets }}
{{- include "hyperpod-ebs.node-refusals" (dict "name" (printf "additionalDaemonSets.%s" $name) "node" (mergeOverwrite (deepCopy $values.node) ($differs | default dict))) }}
{{- if and $differs (hasKey $differs "serviceAccount") }}
additionalDaemonSets.{{ $name }}.serviceAccount is refused: all DaemonSets share node.serviceAccount. Leave it out
{{- end }}
{{- if and $differs (hasKey $differs "namespaceOverride") }}
additionalDaemonSets.{{ $name }}.namespaceOverride is refused: all DaemonSets share node.namespaceOverride. Leave it out
{{- end }}
{{- end }}
{{- if and $values.snapshotController.enabled (not $values.nodeComponentOnly) (not (include "hyperpod-ebs.snapshot-crds" .)) }}
snapshotController.enabled is refused: the cluster does not serve snapshot.storage.k8s.io/v1, and the controller ends at once without it. Apply the CRDs of external-snapshotter {{ $values.snapshotController.image.tag }} first (its directory client/config/crd), or say --api-versions snapshot.storage.k8s.io/v1 to helm template
{{- end }}
{{- if and $values.volumeSnapshotClasses (not (include "hyperpod-ebs.snapshots" .)) }}
volumeSnapshotClasses is refused: the cluster does not serve snapshot.storage.k8s.io/v1. Apply the snapshot CRDs first, or leave the classes out
{{- end }}
{{- if and $values.volumeAttributesClasses (not (include "hyperpod-ebs.attributes-class-api" .)) }}
volumeAttributesClasses is refused: the cluster does not serve VolumeAttributesClass. Kubernetes does from 1.34 on; leave the classes out
{{- end }}
{{- if and $values.nodeComponentOnly (not (include "hyperpod-ebs.daemonsets" . | fromYaml)) }}
nodeComponentOnly is refused: node.enableLinux is false, so that nothing would be installed. Set one of them the other way
{{- end }}
{{- if and $values.nodeComponentOnly $values.snapshotController.enabled }}
snapshotController.enabled is refused: nodeComponentOnly is true, and the snapshot controller is not of the node's part. Set one of them to false
{{- end }}
{{- end }}

{{/* The same of one DaemonSet, of (dict "name" <its path in the values> "node" <its values>). */}}
{{- define "hyperpod-ebs.node-refusals" -}}
{{- $node := .node }}
{{- if and (ne $node.reservedVolumeAttachments nil) (ne $node.volumeAttachLimit nil) }}
{{- if ge (int $node.reservedVolumeAttachments) 0 }}
{{ .name }}.volumeAttachLimit is refused together with {{ .name }}.reservedVolumeAttachments: one is the whole limit, the other what is taken off it. Say one of them
{{- end }}
{{- end }}
{{- if $node.windowsHostProcess }}
{{ .name }}.windowsHostProcess is refused: there is no Windows driver. Set it to false; Windows nodes go on with the upstream driver
{{- end }}
{{- range splitList "," ($node.metadataSources | default "") }}
{{- $source := trim . }}
{{- if not (has $source (list "" "imds" "kubernetes")) }}
{{ $.name }}.metadataSources is refused: {{ $source }} is not among imds and kubernetes{{ if eq $source "metadata-labeler" }}, and there is no metadata labeler{{ end }}. Leave it out
{{- end }}
{{- end }}
{{- end }}
