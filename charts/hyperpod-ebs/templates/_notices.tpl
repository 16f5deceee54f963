{{/* The paths of values that were set, and have no effect with the other values. */}}
{{- define "hyperpod-ebs.without-effect" -}}
{{- $defaults := include "hyperpod-ebs.defaults" . | fromYaml -}}
{{- $paths := list -}}
{{- range $name := list "livenessProbe" "nodeDriverRegistrar" }}
{{- $group := get $.Values.sidecars $name }}
{{- if not $group.enabled }}
{{- $default := get $defaults (printf "sidecars.%s" $name) }}
{{- range $key, $value := $group }}
{{- if not (deepEqual $value (get $default $key)) }}{{ $paths = append $paths (printf "sidecars.%s.%s (the sidecar is not enabled: the driver does its work)" $name $key) }}{{ end }}
{{- end }}
{{- end }}
{{- end -}}
{{- if and (not .Values.sidecars.nodeDriverRegistrar.enabled) (not (deepEqual .Values.node.probeDirVolume (get $defaults "node.probeDirVolume"))) }}
{{- $paths = append $paths "node.probeDirVolume (sidecars.nodeDriverRegistrar is not enabled)" -}}
{{- end -}}
{{- range $name, $group := dict "metadataLabeler" (omit .Values.sidecars.metadataLabeler "enabled") "volumemodifier" .Values.sidecars.volumemodifier }}
{{- range $key, $_ := $group }}{{ $paths = append $paths (printf "sidecars.%s.%s (the driver has no such sidecar)" $name $key) }}{{ end }}
{{- end -}}
{{- with .Values.fullnameOverride }}{{ $paths = append $paths "fullnameOverride (the objects have fixed names, as upstream)" }}{{ end -}}
{{- toYaml $paths }}
{{- end }}

{{/* The notes after an installation: values that are accepted but have another effect than upstream, and what to check. A list of sentences. */}}
{{- define "hyperpod-ebs.notices" -}}
{{- $notices := list -}}
{{- if .Values.node.enableWindows }}
{{- $notices = append $notices "node.enableWindows is true, as it is upstream by default, and has no effect: this driver does not support Windows, and HyperPod has no Windows nodes." -}}
{{- end -}}
{{- if include "hyperpod-ebs.is-go-driver" . }}
{{- $notices = append $notices (printf "image.repository is the Go driver's image, which does not work with this chart. The chart uses %s instead and ignores image.tag. Set image.containerRegistry, or image.repository to your image." (include "hyperpod-ebs.driver-image" .)) -}}
{{- end -}}
{{- with include "hyperpod-ebs.without-effect" . | fromYamlArray }}
{{- $notices = append $notices (printf "these values have no effect here: %s." (join ", " .)) -}}
{{- end -}}
{{- $without_registry := list -}}
{{- $replaced := list -}}
{{- $other_versions := list -}}
{{- if not (include "hyperpod-ebs.names-registry" (include "hyperpod-ebs.driver-image" .)) }}{{ $without_registry = append $without_registry (include "hyperpod-ebs.driver-image" .) }}{{ end -}}
{{- range $name, $image := include "hyperpod-ebs.other-images" . | fromYaml }}
{{- $image_name := include "hyperpod-ebs.image" (dict "root" $ "image" $image) -}}
{{- $version := get (include "hyperpod-ebs.versions" $ | fromYaml) (base $image.repository) -}}
{{- if not (include "hyperpod-ebs.names-registry" $image_name) }}{{ $without_registry = append $without_registry $image_name }}{{ end -}}
{{- if include "hyperpod-ebs.is-replaced" (dict "root" $ "image" $image) }}
{{- $replaced = append $replaced (printf "%s runs %s" $name $image_name) -}}
{{- else if and $version (ne (regexFind "^v[0-9]+[.][0-9]+[.][0-9]+" (toString $image.tag)) $version) }}
{{- $other_versions = append $other_versions (printf "%s is %s, not %s" $name (toString $image.tag) $version) -}}
{{- end -}}
{{- end -}}
{{- with $without_registry }}
{{- $notices = append $notices (printf "no registry is set, so nodes never pull these images and run only imported ones: %s. On a public registry any user can register such a name. Push the images to your registry and set image.containerRegistry to it." (join ", " .)) -}}
{{- end -}}
{{- with $replaced }}
{{- $notices = append $notices (printf "image.containerRegistry replaces the registries that the values name for the sidecars, with this chart's versions: %s." (join ", " .)) -}}
{{- end -}}
{{- with $other_versions }}
{{- $notices = append $notices (printf "some images have other versions than this chart was made for: %s. If the log of one reports a missing right, grant it with its additionalClusterRoleRules." (join "; " .)) -}}
{{- end -}}
{{- $own := include "hyperpod-ebs.own-labels" . | fromYaml -}}
{{- $ignored := list -}}
{{- range $path, $labels := dict
      "customLabels" .Values.customLabels
      "controller.podLabels" .Values.controller.podLabels
      "controller.serviceMonitor.labels" .Values.controller.serviceMonitor.labels
      "node.podLabels" .Values.node.podLabels
      "node.serviceMonitor.labels" .Values.node.serviceMonitor.labels }}
{{- range $key, $value := $labels }}
{{- if or (and (hasKey $own $key) (ne (get $own $key) $value)) (and (eq $key "app") (hasSuffix "podLabels" $path)) }}{{ $ignored = append $ignored (printf "%s in %s" $key $path) }}{{ end }}
{{- end }}
{{- end -}}
{{- with $ignored }}
{{- $notices = append $notices (printf "the chart keeps its own labels, because selectors depend on them, and ignores: %s." (join ", " .)) -}}
{{- end -}}
{{- if not .Values.nodeComponentOnly }}
{{- if not (include "hyperpod-ebs.snapshots" .) }}
{{- $notices = append $notices "the cluster has no snapshot CRDs, so the snapshotter is not installed and VolumeSnapshots have no effect. Install the CRDs and a snapshot controller (the EKS add-on snapshot-controller has both), then upgrade this release. sidecars.snapshotter.forceEnable installs the snapshotter now." -}}
{{- else if not .Values.snapshotController.enabled }}
{{- $notices = append $notices "snapshots need exactly one snapshot controller in the cluster. Check with `kubectl get deployments -A`; if the cluster has none, set snapshotController.enabled." -}}
{{- end -}}
{{- if not (include "hyperpod-ebs.modifies" .) }}
{{- $notices = append $notices "the cluster does not serve VolumeAttributesClass as storage.k8s.io/v1 (Kubernetes does from 1.34 on), so the sidecars do not modify volumes." -}}
{{- end -}}
{{- end -}}
{{- if .Values.node.serviceAccount.disableMutation }}
{{- $notices = append $notices (printf "node.serviceAccount.disableMutation is true: the driver does not remove the taint %s/agent-not-ready from nodes." (include "hyperpod-ebs.driver" .)) -}}
{{- end -}}
{{- toYaml $notices }}
{{- end }}
