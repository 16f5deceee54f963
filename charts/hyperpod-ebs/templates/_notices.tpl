{{/* What is taken and is otherwise here, or wants a look; shown after an installation. A list of sentences. */}}
{{- define "hyperpod-ebs.notices" -}}
{{- $notices := list -}}
{{- if .Values.node.enableWindows }}
{{- $notices = append $notices "node.enableWindows is true, as it is by default upstream, and does nothing: there is no Windows driver, and HyperPod has no Windows nodes." -}}
{{- end -}}
{{- if include "hyperpod-ebs.is-go-driver" . }}
{{- $notices = append $notices (printf "image.repository names the Go driver's image, with which this chart cannot run: it runs %s, and image.tag is not looked at. Say image.containerRegistry or your own image.repository." (include "hyperpod-ebs.driver-image" .)) -}}
{{- end -}}
{{- $homeless := list -}}
{{- $stood_in_for := list -}}
{{- $others := list -}}
{{- if not (include "hyperpod-ebs.names-registry" (include "hyperpod-ebs.driver-image" .)) }}{{ $homeless = append $homeless (include "hyperpod-ebs.driver-image" .) }}{{ end -}}
{{- range $name, $image := include "hyperpod-ebs.beside" . | fromYaml }}
{{- $image_name := include "hyperpod-ebs.image" (dict "root" $ "image" $image) -}}
{{- $version := get (include "hyperpod-ebs.versions" $ | fromYaml) (base $image.repository) -}}
{{- if not (include "hyperpod-ebs.names-registry" $image_name) }}{{ $homeless = append $homeless $image_name }}{{ end -}}
{{- if include "hyperpod-ebs.is-stood-in-for" (dict "root" $ "image" $image) }}
{{- $stood_in_for = append $stood_in_for (printf "%s runs %s" $name $image_name) -}}
{{- else if and $version (ne (regexFind "^v[0-9]+[.][0-9]+[.][0-9]+" (toString $image.tag)) $version) }}
{{- $others = append $others (printf "%s is %s, not %s" $name (toString $image.tag) $version) -}}
{{- end -}}
{{- end -}}
{{- with $homeless }}
{{- $notices = append $notices (printf "no registry is set, so nodes never pull these images and run only those that were imported there: %s. On a public registry, anyone can take such a name. Push the images to your registry and set image.containerRegistry to it." (join ", " .)) -}}
{{- end -}}
{{- with $stood_in_for }}
{{- $notices = append $notices (printf "image.containerRegistry stands in for the registries that the values name for the sidecars, with this chart's versions: %s." (join ", " .)) -}}
{{- end -}}
{{- with $others }}
{{- $notices = append $notices (printf "images are of other versions than this chart was made for: %s. If the log of one tells of a missing right, its additionalClusterRoleRules give it." (join "; " .)) -}}
{{- end -}}
{{- $kept := include "hyperpod-ebs.own-labels" . | fromYaml -}}
{{- $overruled := list -}}
{{- range $path, $labels := dict
      "customLabels" .Values.customLabels
      "controller.podLabels" .Values.controller.podLabels
      "controller.serviceMonitor.labels" .Values.controller.serviceMonitor.labels
      "node.podLabels" .Values.node.podLabels
      "node.serviceMonitor.labels" .Values.node.serviceMonitor.labels }}
{{- range $key, $value := $labels }}
{{- if or (and (hasKey $kept $key) (ne (get $kept $key) $value)) (and (eq $key "app") (hasSuffix "podLabels" $path)) }}{{ $overruled = append $overruled (printf "%s in %s" $key $path) }}{{ end }}
{{- end }}
{{- end -}}
{{- with $overruled }}
{{- $notices = append $notices (printf "the chart's own labels stay, for selectors depend on them: %s is not taken." (join ", " .)) -}}
{{- end -}}
{{- if not .Values.nodeComponentOnly }}
{{- if not (include "hyperpod-ebs.snapshots" .) }}
{{- $notices = append $notices "the cluster has no snapshot CRDs, so there is no snapshotter: VolumeSnapshots do nothing. Once the CRDs and a snapshot controller are there (the EKS add-on snapshot-controller brings both), upgrade this release; sidecars.snapshotter.forceEnable runs it at once." -}}
{{- else if not .Values.snapshotController.enabled }}
{{- $notices = append $notices "snapshots need a snapshot controller in the cluster, and exactly one. `kubectl get deployments -A` shows it; if there is none, set snapshotController.enabled." -}}
{{- end -}}
{{- if not (include "hyperpod-ebs.modifies" .) }}
{{- $notices = append $notices "the cluster does not serve VolumeAttributesClass as storage.k8s.io/v1 (Kubernetes does from 1.34 on): the sidecars leave modification out." -}}
{{- end -}}
{{- end -}}
{{- if .Values.node.serviceAccount.disableMutation }}
{{- $notices = append $notices (printf "node.serviceAccount.disableMutation is true: the taint %s/agent-not-ready stays on a node until somebody else takes it off." (include "hyperpod-ebs.driver" .)) -}}
{{- end -}}
{{- toYaml $notices }}
{{- end }}
