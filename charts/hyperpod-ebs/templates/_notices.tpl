{{/* What is taken and is otherwise here, or wants a look; shown after an installation. A list of sentences. */}}
{{- define "hyperpod-ebs.notices" -}}
{{- $notices := list -}}
{{- if .Values.node.enableWindows }}
{{- $notices = append $notices "node.enableWindows is true, as it is by default upstream, and does nothing: there is no Windows driver, and HyperPod has no Windows nodes." -}}
{{- end -}}
{{- if include "hyperpod-ebs.is-go-driver" . }}
{{- $notices = append $notices (printf "image.repository names the Go driver's image, with which this chart cannot run: it runs %s, and image.tag is not looked at. Say image.containerRegistry or your own image.repository." (include "hyperpod-ebs.driver-image" .)) -}}
{{- end -}}
{{- if and (not .Values.image.containerRegistry) (not (contains "/" .Values.image.repository)) }}
{{- $notices = append $notices (printf "image.containerRegistry is empty: nodes look for %s where their container runtime looks by itself. Unless it is imported there, push the images to a registry of yours and name that." (include "hyperpod-ebs.driver-image" .)) -}}
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
