{{/* The node component: a DaemonSet of (dict "root" $ "name" <its name> "node" <values as in .Values.node>). */}}

{{- define "hyperpod-ebs.node-arguments" -}}
{{- $node := .node -}}
{{- $kubelet := trimSuffix "/" $node.kubeletPath -}}
{{- $sidecars := .root.Values.sidecars -}}
{{- $arguments := list "node" "--endpoint=$(CSI_ENDPOINT)" (printf "--kubelet-root=%s" $kubelet) -}}
{{- if not $sidecars.nodeDriverRegistrar.enabled }}
{{- $arguments = concat $arguments (list
      (printf "--kubelet-registration-path=%s/plugins/%s/csi.sock" $kubelet (include "hyperpod-ebs.driver" .root))
      "--plugin-registration-path=/registration") -}}
{{- end -}}
{{- $arguments = append $arguments (include "hyperpod-ebs.health" (dict "sidecar" $sidecars.livenessProbe.enabled) | fromYaml).argument -}}
{{- if $node.enableMetrics }}{{ $arguments = append $arguments "--http-endpoint=:3302" }}{{ end -}}
{{- with $node.metadataSources }}{{ $arguments = append $arguments (printf "--metadata-sources=%s" .) }}{{ end -}}
{{- if ne $node.reservedVolumeAttachments nil }}
{{- $arguments = append $arguments (printf "--reserved-volume-attachments=%d" (int $node.reservedVolumeAttachments)) -}}
{{- end -}}
{{- if ne $node.volumeAttachLimit nil }}
{{- $arguments = append $arguments (printf "--volume-attach-limit=%d" (int $node.volumeAttachLimit)) -}}
{{- end -}}
{{- if $node.legacyXFS }}{{ $arguments = append $arguments "--legacy-xfs=true" }}{{ end -}}
{{- /* Without a controller no program publishes them. */ -}}
{{- if not .root.Values.nodeComponentOnly }}{{ $arguments = append $arguments (include "hyperpod-ebs.attach-limits-flag" .root) }}{{ end -}}
{{- $level := include "hyperpod-ebs.log-level" (dict "root" .root "level" $node.logLevel) -}}
{{- concat $arguments (list (printf "--logging-format=%s" $node.loggingFormat) (printf "--v=%s" $level)) | toYaml }}
{{- end }}

{{/* The volumes of the pod that the driver mounts: host path and mount of each. */}}
{{- define "hyperpod-ebs.node-directories" -}}
{{- $kubelet := trimSuffix "/" .node.kubeletPath -}}
- name: kubelet-dir
  host: {path: {{ $kubelet }}, type: Directory}
  mount: {mountPath: {{ $kubelet }}, mountPropagation: Bidirectional}
- name: plugin-dir
  host: {path: {{ $kubelet }}/plugins/{{ include "hyperpod-ebs.driver" .root }}/, type: DirectoryOrCreate}
  mount: {mountPath: /csi}
- name: registration-dir
  host: {path: {{ $kubelet }}/plugins_registry/, type: Directory}
  mount: {mountPath: /registration}
- name: device-dir
  host: {path: /dev, type: Directory}
  mount: {mountPath: /dev}
{{- if .node.selinux }}
- name: selinux-sysfs
  host: {path: /sys/fs/selinux, type: Directory}
  mount: {mountPath: /sys/fs/selinux}
- name: selinux-config
  host: {path: /etc/selinux/config, type: File}
  mount: {mountPath: /etc/selinux/config, readOnly: true}
{{- end }}
{{- end }}

{{/* The hook waits for the pod's grace period minus ten seconds, which the driver needs to stop. */}}
{{- define "hyperpod-ebs.pre-stop-hook" -}}
- /bin/aws-ebs-csi-driver
- pre-stop-hook
- --wait-seconds={{ max 1 (sub (int .node.terminationGracePeriodSeconds) 10) }}
{{- end }}

{{- define "hyperpod-ebs.node-driver" -}}
{{- $node := .node -}}
{{- $sidecar := .root.Values.sidecars.livenessProbe.enabled -}}
{{- $ports := (include "hyperpod-ebs.health" (dict "sidecar" $sidecar) | fromYaml).ports -}}
{{- if $node.enableMetrics }}{{ $_ := set $ports "metrics" 3302 }}{{ end -}}
{{- $mounts := (include "hyperpod-ebs.scratch" (dict "mounts" $node.volumeMounts) | fromYaml).mounts -}}
{{- range include "hyperpod-ebs.node-directories" . | fromYamlArray }}
{{- $mounts = append $mounts (merge (dict "name" .name) .mount) -}}
{{- end -}}
{{- $environment := list
      (dict "name" "CSI_ENDPOINT" "value" "unix:///csi/csi.sock")
      (dict "name" "CSI_NODE_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "spec.nodeName"))) -}}
{{- if $node.serviceAccount.disableMutation }}
{{- /* Without the right to patch nodes the driver cannot remove the taint. */ -}}
{{- $environment = append $environment (dict "name" "DISABLE_TAINT_WATCHER" "value" "1") -}}
{{- end -}}
{{- include "hyperpod-ebs.container" (dict
      "root" .root
      "name" "ebs-plugin"
      "image" (include "hyperpod-ebs.driver-image" .root)
      "arguments" (include "hyperpod-ebs.node-arguments" . | fromYamlArray)
      "additionalArgs" $node.additionalArgs
      "environment" $environment
      "env" $node.env
      "envFrom" $node.envFrom
      "ports" $ports
      "probes" (include "hyperpod-ebs.probes" (dict "socket" "/csi/csi.sock" "sidecar" $sidecar) | fromYaml)
      "lifecycle" (dict "preStop" (dict "exec" (dict "command" (include "hyperpod-ebs.pre-stop-hook" . | fromYamlArray))))
      "mounts" (concat $mounts ($node.volumeMounts | default list))
      "resources" $node.resources
      "security" $node.containerSecurityContext) }}
{{- end }}

{{/* The community's registrar. */}}
{{- define "hyperpod-ebs.registrar" -}}
{{- $node := .node -}}
{{- $values := .root.Values.sidecars.nodeDriverRegistrar -}}
{{- $directory := printf "%s/plugins/%s" (trimSuffix "/" $node.kubeletPath) (include "hyperpod-ebs.driver" .root) -}}
{{- $level := include "hyperpod-ebs.log-level" (dict "root" .root "level" $values.logLevel) -}}
{{- $arguments := list "--csi-address=$(ADDRESS)" "--kubelet-registration-path=$(DRIVER_REG_SOCK_PATH)" (printf "--v=%s" $level) -}}
{{- $ports := dict -}}
{{- $probe := $values.livenessProbe -}}
{{- if $values.healthPort }}
{{- $arguments = append $arguments (printf "--http-endpoint=:%d" (int $values.healthPort)) -}}
{{- $ports = dict "registrar" $values.healthPort -}}
{{- $probe = $probe | default (dict
      "httpGet" (dict "path" "/healthz" "port" "registrar") "initialDelaySeconds" 30 "periodSeconds" 90 "timeoutSeconds" 15) -}}
{{- end -}}
{{- include "hyperpod-ebs.container" (dict
      "root" .root
      "name" "node-driver-registrar"
      "image" (include "hyperpod-ebs.image" (dict "root" .root "image" $values.image))
      "pullPolicy" $values.image.pullPolicy
      "arguments" $arguments
      "additionalArgs" $values.additionalArgs
      "environment" (list
        (dict "name" "ADDRESS" "value" "/csi/csi.sock")
        (dict "name" "DRIVER_REG_SOCK_PATH" "value" (printf "%s/csi.sock" $directory)))
      "env" $values.env
      "envFrom" $node.envFrom
      "ports" $ports
      "probes" (ternary (dict "livenessProbe" $probe) dict (not (empty $probe)))
      "mounts" (list
        (dict "name" "plugin-dir" "mountPath" "/csi")
        (dict "name" "registration-dir" "mountPath" "/registration")
        (dict "name" "probe-dir" "mountPath" $directory))
      "resources" ($values.resources | default $node.resources)
      "security" $values.securityContext) }}
{{- end }}

{{- define "hyperpod-ebs.node" -}}
{{- $root := .root -}}
{{- $node := .node -}}
{{- $sidecars := $root.Values.sidecars -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ .name }}
  namespace: {{ include "hyperpod-ebs.node-namespace" $root }}
  labels:
    {{- include "hyperpod-ebs.labels" $root | nindent 4 }}
  {{- with $node.daemonSetAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  revisionHistoryLimit: {{ $node.revisionHistoryLimit }}
  selector:
    matchLabels:
      app: {{ .name }}
      {{- include "hyperpod-ebs.selector" $root | nindent 6 }}
  {{- with include "hyperpod-ebs.update-strategy" $node.updateStrategy | fromYaml }}
  updateStrategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  template:
    metadata:
      labels:
        {{- include "hyperpod-ebs.pod-labels" (dict "root" $root "app" .name "labels" $node.podLabels) | nindent 8 }}
      {{- with $node.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $node.serviceAccount.name }}
      priorityClassName: {{ $node.priorityClassName | default "system-node-critical" }}
      terminationGracePeriodSeconds: {{ $node.terminationGracePeriodSeconds }}
      hostNetwork: {{ $node.hostNetwork }}
      {{- if $node.hostNetwork }}
      dnsPolicy: ClusterFirstWithHostNet
      {{- end }}
      nodeSelector:
        kubernetes.io/os: linux
        {{- with $node.nodeSelector }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $node.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      tolerations:
        {{- if $node.tolerateAllTaints }}
        - operator: Exists
        {{- else }}
        {{- with $node.tolerations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- /* The start-up taint, and drains: the driver leaves a drained node last, since it unmounts the volumes. */}}
        {{- range list (printf "%s/agent-not-ready" (include "hyperpod-ebs.driver" $root)) "ToBeDeletedByClusterAutoscaler" "karpenter.sh/disrupted" "karpenter.sh/disruption" }}
        - key: {{ . }}
          operator: Exists
        {{- end }}
        {{- end }}
      {{- with $node.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $node.dnsConfig }}
      dnsConfig:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with $node.initContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - {{ include "hyperpod-ebs.node-driver" . | nindent 10 | trim }}
        {{- if $sidecars.nodeDriverRegistrar.enabled }}
        - {{ include "hyperpod-ebs.registrar" . | nindent 10 | trim }}
        {{- end }}
        {{- if $sidecars.livenessProbe.enabled }}
        - {{ include "hyperpod-ebs.liveness-probe" (dict "root" $root "volume" "plugin-dir" "beside" $node "arguments" list) | nindent 10 | trim }}
        {{- end }}
      volumes:
        {{- range include "hyperpod-ebs.node-directories" . | fromYamlArray }}
        - name: {{ .name }}
          hostPath:
            {{- toYaml .host | nindent 12 }}
        {{- end }}
        {{- with (include "hyperpod-ebs.scratch" (dict "mounts" $node.volumeMounts) | fromYaml).volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- if $sidecars.nodeDriverRegistrar.enabled }}
        - name: probe-dir
          {{- $node.probeDirVolume | default (dict "emptyDir" dict) | toYaml | nindent 10 }}
        {{- end }}
        {{- with $node.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{/* The values of every DaemonSet, as in .Values.node, by its name. Those of additionalDaemonSets override the node's. */}}
{{- define "hyperpod-ebs.daemonsets" -}}
{{- $made := dict -}}
{{- $all := dict "ebs-csi-node" .Values.node -}}
{{- range $name, $differs := .Values.additionalDaemonSets }}
{{- $_ := set $all (printf "ebs-csi-node-%s" $name) (mergeOverwrite (deepCopy $.Values.node) ($differs | default dict)) }}
{{- end }}
{{- range $name, $node := $all }}
{{- if $node.enableLinux }}{{ $_ := set $made $name $node }}{{ end }}
{{- end }}
{{- toYaml $made }}
{{- end }}
