{{/* Values that cannot be honoured, each refused by its name: a value that has no effect would mislead its user. */}}

{{/* One line for each refusal; "" if the values are valid. */}}
{{- define "hyperpod-ebs.refusals" -}}
{{- $values := .Values -}}
{{- $controller := .Values.controller -}}
{{- $hyperpod := .Values.hyperpod -}}
{{- if $values.fips }}
fips is refused: the TLS library of this image is not a validated FIPS module. For only AWS's FIPS endpoints, set fips to false and add AWS_USE_FIPS_ENDPOINT=true to controller.env
{{- end }}
{{- if $values.a1CompatibilityDaemonSet }}
a1CompatibilityDaemonSet is refused: the image does not run on A1 instances. Set it to false; the default node.affinity excludes these instances
{{- end }}
{{- if $controller.volumeModificationFeature.enabled }}
controller.volumeModificationFeature.enabled is refused: this driver has no volume-modifier sidecar. Set it to false and change volumes with a VolumeAttributesClass (volumeAttributesClasses)
{{- end }}
{{- if $controller.enableNodeLocalVolumes }}
controller.enableNodeLocalVolumes is refused: the driver attaches every volume itself. Set it to false
{{- end }}
{{- if $values.sidecars.metadataLabeler.enabled }}
sidecars.metadataLabeler.enabled is refused: this driver has no metadata labeler. Set it to false; the driver reads SageMaker's labels on HyperPod nodes and instance metadata on EC2 nodes
{{- end }}
{{- range $name, $tracing := dict "controller" $controller.otelTracing "node" $values.node.otelTracing }}
{{- if $tracing }}
{{ $name }}.otelTracing is refused: the driver sends no traces. Leave it empty; for metrics, set {{ $name }}.enableMetrics
{{- end }}
{{- end }}
{{- if and (ne $values.image.repository "aws-ebs-csi-driver") (hasSuffix "/aws-ebs-csi-driver" $values.image.repository) (not (include "hyperpod-ebs.is-go-driver" .)) }}
image.repository is refused: {{ $values.image.repository }} is a copy of the Go driver, which does not accept this chart's arguments. Push hyperpod-ebs to your registry and set image.repository to it, or remove image.repository and set image.containerRegistry
{{- end }}
{{- if and $values.image.containerRegistry (include "hyperpod-ebs.names-registry" $values.image.repository) (not (hasSuffix "/aws-ebs-csi-driver" $values.image.repository)) }}
image.repository is refused: {{ $values.image.repository }} has a registry, and image.containerRegistry would be put before it. Remove one of the two registries
{{- end }}
{{- range $name, $image := include "hyperpod-ebs.other-images" . | fromYaml }}
{{- if and $values.image.containerRegistry (include "hyperpod-ebs.names-registry" $image.repository) (not (include "hyperpod-ebs.is-replaced" (dict "root" $ "image" $image))) }}
{{ $name }}.image.repository is refused: {{ $image.repository }} has a registry, and image.containerRegistry would be put before it. Remove {{ $name }}.image and copy the chart's image to your registry, or remove image.containerRegistry and give every image a complete name
{{- end }}
{{- end }}
{{- range $name, $arguments := dict "sidecars.snapshotter" $values.sidecars.snapshotter.additionalArgs "snapshotController" $values.snapshotController.additionalArgs }}
{{- range $arguments }}
{{- if regexMatch "^--?feature-gates=(.*,)?CSIVolumeGroupSnapshot=(1|[tT]|true|TRUE|True)(,|$)" . }}
{{ $name }}.additionalArgs is refused: {{ . }} enables group snapshots, which the driver does not support; without rights for them the snapshotter takes no snapshots at all. Remove it
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $value := $controller.extraVolumeTags }}
{{- $pair := printf "%s=%s" $key (toString $value) -}}
{{- if or (contains "=" $key) (and (contains "," $pair) (contains "\"" $pair)) }}
controller.extraVolumeTags is refused: the tag {{ $key }} has an equals sign in its key, or both a comma and a quotation mark, which the driver's --extra-tags does not support. Choose another key or value
{{- end }}
{{- end }}
{{- if and $controller.region $hyperpod.region (ne $controller.region $hyperpod.region) }}
hyperpod.region is refused: it is {{ $hyperpod.region }}, and controller.region is {{ $controller.region }}. Set only one of them
{{- end }}
{{- with $hyperpod.clusterArn }}
{{- $parts := splitList ":" (printf "%s::::::" .) }}
{{- range $field, $both := dict "partition" (list $hyperpod.partition (index $parts 1)) "region" (list (default $controller.region $hyperpod.region) (index $parts 3)) "account" (list ($hyperpod.account | default "" | toString) (index $parts 4)) }}
{{- if and (first $both) (ne (first $both) (last $both)) }}
hyperpod.clusterArn is refused: its {{ $field }} is {{ last $both }}, and the values say {{ first $both }}. Remove hyperpod.{{ $field }}, or correct the ARN
{{- end }}
{{- end }}
{{- end }}
{{- $annotated := get ($controller.serviceAccount.annotations | default dict) "eks.amazonaws.com/role-arn" }}
{{- if and $hyperpod.role.arn $annotated (ne $hyperpod.role.arn $annotated) }}
hyperpod.role.arn is refused: it is {{ $hyperpod.role.arn }}, and controller.serviceAccount.annotations has {{ $annotated }}. Set only one of them
{{- end }}
{{- if and $hyperpod.role.arn (eq $hyperpod.role.through "irsa") (not $controller.serviceAccount.create) }}
hyperpod.role.arn is refused: controller.serviceAccount.create is false, so the chart cannot annotate the service account. Annotate your service account with eks.amazonaws.com/role-arn, or set hyperpod.role.through to podIdentity
{{- end }}
{{- with $controller.podDisruptionBudget }}
{{- if and .enabled (ne .maxUnavailable nil) (ne .minAvailable nil) }}
controller.podDisruptionBudget.maxUnavailable is refused: it is {{ .maxUnavailable }}, and minAvailable is {{ .minAvailable }}; Kubernetes accepts only one of them. Remove one
{{- end }}
{{- end }}
{{- range tuple "provisioner" "attacher" "resizer" }}
{{- if and (not (index $values.sidecars . "leaderElection").enabled) (gt (int $controller.replicaCount) 1) }}
sidecars.{{ . }}.leaderElection.enabled is refused: it is false, so all {{ $controller.replicaCount }} replicas of the controller would act at once. Set it to true, or controller.replicaCount to 1
{{- end }}
{{- end }}
{{- include "hyperpod-ebs.node-refusals" (dict "name" "node" "node" $values.node) }}
{{- range $name, $differs := $values.additionalDaemonSets }}
{{- include "hyperpod-ebs.node-refusals" (dict "name" (printf "additionalDaemonSets.%s" $name) "node" (mergeOverwrite (deepCopy $values.node) ($differs | default dict))) }}
{{- if regexMatch "(^|-)windows$" $name }}
additionalDaemonSets.{{ $name }} is refused: ebs-csi-node-{{ $name }} can be upstream's DaemonSet for Windows nodes. Use another name
{{- end }}
{{- if and $differs (hasKey $differs "serviceAccount") }}
additionalDaemonSets.{{ $name }}.serviceAccount is refused: all DaemonSets use node.serviceAccount. Remove it
{{- end }}
{{- if and $differs (hasKey $differs "namespaceOverride") }}
additionalDaemonSets.{{ $name }}.namespaceOverride is refused: all DaemonSets use node.namespaceOverride. Remove it
{{- end }}
{{- end }}
{{- if and $values.snapshotController.enabled (not $values.nodeComponentOnly) (not (include "hyperpod-ebs.snapshot-crds" .)) }}
snapshotController.enabled is refused: the cluster does not serve snapshot.storage.k8s.io/v1, without which the snapshot controller exits. First apply the CRDs of external-snapshotter {{ $values.snapshotController.image.tag }} (its directory client/config/crd); for helm template, pass --api-versions snapshot.storage.k8s.io/v1
{{- end }}
{{- if and $values.volumeSnapshotClasses (not (include "hyperpod-ebs.snapshots" .)) }}
volumeSnapshotClasses is refused: the cluster does not serve snapshot.storage.k8s.io/v1. First apply the snapshot CRDs, or remove the classes
{{- end }}
{{- if and $values.volumeAttributesClasses (not (include "hyperpod-ebs.attributes-class-api" .)) }}
volumeAttributesClasses is refused: the cluster does not serve VolumeAttributesClass. Kubernetes does from 1.34 on; remove the classes
{{- end }}
{{- if and $values.nodeComponentOnly (not (include "hyperpod-ebs.daemonsets" . | fromYaml)) }}
nodeComponentOnly is refused: it is true and node.enableLinux is false, so nothing would be installed. Change one of them
{{- end }}
{{- if and $values.nodeComponentOnly $values.snapshotController.enabled }}
snapshotController.enabled is refused: nodeComponentOnly is true, and the snapshot controller is not part of the node component. Set one of them to false
{{- end }}
{{- end }}

{{/* The refusals for one DaemonSet, of (dict "name" <its path in the values> "node" <its values>). */}}
{{- define "hyperpod-ebs.node-refusals" -}}
{{- $node := .node }}
{{- if and (ne $node.reservedVolumeAttachments nil) (ne $node.volumeAttachLimit nil) }}
{{- if ge (int $node.reservedVolumeAttachments) 0 }}
{{ .name }}.volumeAttachLimit is refused together with {{ .name }}.reservedVolumeAttachments: the first is the whole limit, the second is subtracted from it. Set only one of them
{{- end }}
{{- end }}
{{- if $node.windowsHostProcess }}
{{ .name }}.windowsHostProcess is refused: this driver does not support Windows. Set it to false; if pods on Windows nodes use EBS volumes, stay with the upstream driver
{{- end }}
{{- range splitList "," ($node.metadataSources | default "") }}
{{- $source := trim . }}
{{- if not (has $source (list "" "imds" "kubernetes")) }}
{{ $.name }}.metadataSources is refused: {{ $source }} is not one of imds, kubernetes{{ if eq $source "metadata-labeler" }}, and this driver has no metadata labeler{{ end }}. Remove it
{{- end }}
{{- end }}
{{- end }}
