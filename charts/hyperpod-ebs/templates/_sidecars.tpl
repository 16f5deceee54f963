{{/* The sidecars of the controller's pod: a table, and the container of a row. */}}

{{- define "hyperpod-ebs.sidecars" -}}
{{- $controller := .Values.controller -}}
{{- $client := list "--kube-api-qps=20" "--kube-api-burst=100" -}}
{{- $modifies := include "hyperpod-ebs.modifies" . -}}
{{- $no_classes := ternary (list) (list "--feature-gates=VolumeAttributesClass=false") (eq $modifies "yes") -}}
{{- $metadata := ternary (list "--extra-create-metadata") (list) $controller.extraCreateMetadata -}}
{{- $provisioner := concat $client $metadata (list
      (printf "--feature-gates=Topology=true%s" (ternary "" ",VolumeAttributesClass=false" (eq $modifies "yes")))
      "--timeout=60s" "--worker-threads=100" "--retry-interval-max=30m") -}}
{{- with $controller.defaultFsType }}{{ $provisioner = append $provisioner (printf "--default-fstype=%s" .) }}{{ end -}}
{{- $rows := list
      (dict "key" "provisioner" "name" "csi-provisioner" "port" 3302 "arguments" $provisioner)
      (dict "key" "attacher" "name" "csi-attacher" "port" 3303 "arguments"
        (concat $client (list "--timeout=6m" "--worker-threads=100" "--retry-interval-max=5m")))
      (dict "key" "resizer" "name" "csi-resizer" "port" 3304 "arguments"
        (concat $client $no_classes
          (ternary (list "--extra-modify-metadata") (list) $controller.extraCreateMetadata)
          (list "--timeout=60s" "--workers=100" "--handle-volume-inuse-error=false"))) -}}
{{- if include "hyperpod-ebs.snapshots" . }}
{{- $rows = append $rows (dict "key" "snapshotter" "name" "csi-snapshotter" "port" 3306 "arguments"
      (concat $client $metadata (list "--worker-threads=100" "--retry-interval-max=30m"))) -}}
{{- end -}}
{{- toYaml $rows }}
{{- end }}

{{/* The arguments for leader election, of a sidecar's leaderElection. */}}
{{- define "hyperpod-ebs.election" -}}
{{- $arguments := list (printf "--leader-election=%t" .enabled) -}}
{{- if .enabled }}
{{- with .leaseDuration }}{{ $arguments = append $arguments (printf "--leader-election-lease-duration=%s" .) }}{{ end }}
{{- with .renewDeadline }}{{ $arguments = append $arguments (printf "--leader-election-renew-deadline=%s" .) }}{{ end }}
{{- with .retryPeriod }}{{ $arguments = append $arguments (printf "--leader-election-retry-period=%s" .) }}{{ end }}
{{- end -}}
{{- toYaml $arguments }}
{{- end }}

{{/* The container of (dict "root" $ "row" <a row>). */}}
{{- define "hyperpod-ebs.sidecar" -}}
{{- $values := index .root.Values.sidecars .row.key -}}
{{- $controller := .root.Values.controller -}}
{{- $level := include "hyperpod-ebs.log-level" (dict "root" .root "level" $values.logLevel) -}}
{{- $election := include "hyperpod-ebs.election" ($values.leaderElection | default (dict "enabled" true)) | fromYamlArray -}}
{{- $arguments := concat (list "--csi-address=$(ADDRESS)" (printf "--v=%s" $level)) .row.arguments $election -}}
{{- $ports := dict -}}
{{- if $controller.enableMetrics }}
{{- $arguments = append $arguments (printf "--http-endpoint=:%d" (int .row.port)) -}}
{{- $ports = dict .row.key .row.port -}}
{{- end -}}
{{- include "hyperpod-ebs.container" (dict
      "root" .root
      "name" .row.name
      "image" (include "hyperpod-ebs.image" (dict "root" .root "image" $values.image))
      "pullPolicy" $values.image.pullPolicy
      "arguments" $arguments
      "additionalArgs" $values.additionalArgs
      "environment" (list (dict "name" "ADDRESS" "value" "/var/lib/csi/sockets/pluginproxy/csi.sock"))
      "env" $values.env
      "envFrom" $controller.envFrom
      "ports" $ports
      "mounts" (list (dict "name" "socket-dir" "mountPath" "/var/lib/csi/sockets/pluginproxy"))
      "resources" ($values.resources | default $controller.resources)
      "security" $values.securityContext) }}
{{- end }}

{{/* The community's liveness probe, of (dict "root" $ "directory" <of the socket> "volume" <its name> "beside" <the driver's values>). */}}
{{- define "hyperpod-ebs.liveness-probe" -}}
{{- $values := .root.Values.sidecars.livenessProbe -}}
{{- include "hyperpod-ebs.container" (dict
      "root" .root
      "name" "liveness-probe"
      "image" (include "hyperpod-ebs.image" (dict "root" .root "image" $values.image))
      "pullPolicy" $values.image.pullPolicy
      "arguments" (concat (list "--csi-address=/csi/csi.sock") .arguments)
      "additionalArgs" $values.additionalArgs
      "environment" list
      "envFrom" .beside.envFrom
      "mounts" (list (dict "name" .volume "mountPath" "/csi"))
      "resources" ($values.resources | default .beside.resources)
      "security" $values.securityContext) }}
{{- end }}
