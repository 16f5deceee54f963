{{/* The driver in the controller's pod. */}}

{{/* A pair with a comma is quoted, as in CSV. */}}
{{- define "hyperpod-ebs.extra-tags" -}}
{{- $pairs := list -}}
{{- range $key, $value := . }}
{{- $pair := printf "%s=%s" $key (toString $value) -}}
{{- $pairs = append $pairs (contains "," $pair | ternary (printf "\"%s\"" $pair) $pair) -}}
{{- end -}}
{{- join "," $pairs }}
{{- end }}

{{- define "hyperpod-ebs.controller-arguments" -}}
{{- $controller := .Values.controller -}}
{{- $arguments := list "controller" "--endpoint=$(CSI_ENDPOINT)" -}}
{{- $arguments = append $arguments (include "hyperpod-ebs.health" (dict "sidecar" .Values.sidecars.livenessProbe.enabled) | fromYaml).argument -}}
{{- if or $controller.httpEndpoint $controller.enableMetrics }}
{{- $arguments = append $arguments (printf "--http-endpoint=%s" ($controller.httpEndpoint | default (printf ":%s" (include "hyperpod-ebs.metrics-port" .)))) -}}
{{- end -}}
{{- with $controller.extraVolumeTags }}{{ $arguments = append $arguments (printf "--extra-tags=%s" (include "hyperpod-ebs.extra-tags" .)) }}{{ end -}}
{{- with $controller.k8sTagClusterId | default .Values.hyperpod.eksClusterName }}{{ $arguments = append $arguments (printf "--k8s-tag-cluster-id=%s" .) }}{{ end -}}
{{- $arguments = append $arguments (printf "--batching=%t" $controller.batching) -}}
{{- with $controller.userAgentExtra }}{{ $arguments = append $arguments (printf "--user-agent-extra=%s" .) }}{{ end -}}
{{- if or $controller.sdkDebugLog .Values.debugLogs }}{{ $arguments = append $arguments "--aws-sdk-debug-log=true" }}{{ end -}}
{{- with .Values.hyperpod.clusterArn }}{{ $arguments = append $arguments (printf "--cluster-arn=%s" .) }}{{ end -}}
{{- $cluster := include "hyperpod-ebs.cluster" . | fromYaml -}}
{{- with $cluster.account }}{{ $arguments = append $arguments (printf "--account-id=%s" .) }}{{ end -}}
{{- with $cluster.partition }}{{ $arguments = append $arguments (printf "--partition=%s" .) }}{{ end -}}
{{- $arguments = append $arguments (include "hyperpod-ebs.attach-limits-flag" .) -}}
{{- $level := include "hyperpod-ebs.log-level" (dict "root" . "level" $controller.logLevel) -}}
{{- concat $arguments (list (printf "--logging-format=%s" $controller.loggingFormat) (printf "--v=%s" $level)) | toYaml }}
{{- end }}

{{- define "hyperpod-ebs.controller-environment" -}}
{{- $secret := .Values.awsAccessSecret -}}
- name: CSI_ENDPOINT
  value: unix:///var/lib/csi/sockets/pluginproxy/csi.sock
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.keyId }}
      optional: true
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.accessKey }}
      optional: true
- name: AWS_EC2_ENDPOINT
  valueFrom:
    configMapKeyRef:
      name: aws-meta
      key: ec2_endpoint
      optional: true
{{- /* Older releases of upstream's chart have this key for the same; the driver looks there first. */}}
- name: HYPERPOD_EBS_EC2_ENDPOINT
  valueFrom:
    configMapKeyRef:
      name: aws-meta
      key: endpoint
      optional: true
- name: AWS_SAGEMAKER_ENDPOINT
  valueFrom:
    configMapKeyRef:
      name: aws-meta
      key: sagemaker_endpoint
      optional: true
{{- $cluster := include "hyperpod-ebs.cluster" . | fromYaml }}
{{- with $cluster.region }}
- name: AWS_REGION
  value: {{ . }}
{{- end }}
{{- with .Values.embeddedCloud.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . }}
{{- end }}
{{- end }}

{{- define "hyperpod-ebs.controller-driver" -}}
{{- $controller := .Values.controller -}}
{{- $sidecar := .Values.sidecars.livenessProbe.enabled -}}
{{- $ports := (include "hyperpod-ebs.health" (dict "sidecar" $sidecar) | fromYaml).ports -}}
{{- if $controller.enableMetrics }}{{ $_ := set $ports "metrics" (include "hyperpod-ebs.metrics-port" .) }}{{ end -}}
{{- include "hyperpod-ebs.container" (dict
      "root" .
      "name" "ebs-plugin"
      "image" (include "hyperpod-ebs.driver-image" .)
      "arguments" (include "hyperpod-ebs.controller-arguments" . | fromYamlArray)
      "additionalArgs" $controller.additionalArgs
      "environment" (include "hyperpod-ebs.controller-environment" . | fromYamlArray)
      "env" $controller.env
      "envFrom" $controller.envFrom
      "ports" $ports
      "probes" (include "hyperpod-ebs.probes" (dict "socket" "/var/lib/csi/sockets/pluginproxy/csi.sock" "sidecar" $sidecar) | fromYaml)
      "mounts" (concat
        (list (dict "name" "socket-dir" "mountPath" "/var/lib/csi/sockets/pluginproxy"))
        (include "hyperpod-ebs.scratch" (dict "mounts" $controller.volumeMounts) | fromYaml).mounts
        ($controller.volumeMounts | default list))
      "resources" $controller.resources
      "security" $controller.containerSecurityContext) }}
{{- end }}
