{{/* The parts of every container. */}}

{{/* Arguments of (dict "own" <list> "additional" <list>): an additional argument replaces an own one that sets the same flag. */}}
{{- define "hyperpod-ebs.arguments" -}}
{{- $flags := list -}}
{{- range .additional }}{{ $flags = append $flags (splitList "=" . | first | trimPrefix "-" | trimPrefix "-") }}{{ end -}}
{{- $arguments := list -}}
{{- range .own }}
{{- if not (has (splitList "=" . | first | trimPrefix "-" | trimPrefix "-") $flags) }}{{ $arguments = append $arguments . }}{{ end -}}
{{- end -}}
{{- concat $arguments (.additional | default list) | toYaml }}
{{- end }}

{{/* Environment of (dict "root" $ "own" <list> "additional" <list>). */}}
{{- define "hyperpod-ebs.environment" -}}
{{- $environment := .own -}}
{{- with .root.Values.proxy }}
{{- if .http_proxy }}
{{- $environment = concat $environment (list
      (dict "name" "HTTP_PROXY" "value" .http_proxy)
      (dict "name" "HTTPS_PROXY" "value" .http_proxy)
      (dict "name" "NO_PROXY" "value" (.no_proxy | default ""))) -}}
{{- end }}
{{- end }}
{{- concat $environment (.additional | default list) | toYaml }}
{{- end }}

{{/* A container of
       root, name, image, pullPolicy, arguments, additionalArgs, environment, env, envFrom, mounts, resources, security,
     and optionally ports and probes, a map from a probe's field to the probe. */}}
{{- define "hyperpod-ebs.container" -}}
name: {{ .name }}
image: {{ .image }}
imagePullPolicy: {{ include "hyperpod-ebs.pull-policy" (dict "image" .image "policy" (.pullPolicy | default .root.Values.image.pullPolicy)) }}
args:
  {{- include "hyperpod-ebs.arguments" (dict "own" .arguments "additional" .additionalArgs) | nindent 2 }}
{{- with include "hyperpod-ebs.environment" (dict "root" .root "own" .environment "additional" .env) | fromYamlArray }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .ports }}
ports:
  {{- range $name, $port := . }}
  - name: {{ $name }}
    containerPort: {{ $port }}
    protocol: TCP
  {{- end }}
{{- end }}
{{- range $field, $probe := .probes }}
{{ $field }}:
  {{- toYaml $probe | nindent 2 }}
{{- end }}
{{- with .lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with .resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .security }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .mounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The directory for the driver's temporary files, since its root filesystem is read-only: volume and mount as lists, of
     (dict "mounts" <the user's>). Empty lists if the user mounts /tmp. */}}
{{- define "hyperpod-ebs.scratch" -}}
{{- $mounted := list -}}
{{- range .mounts }}{{ $mounted = append $mounted (trimSuffix "/" .mountPath) }}{{ end -}}
{{- $volume := dict "name" "ebs-scratch" "emptyDir" (dict "medium" "Memory" "sizeLimit" "16Mi") -}}
{{- $mount := dict "name" "ebs-scratch" "mountPath" "/tmp" -}}
{{- if has "/tmp" $mounted }}{volumes: [], mounts: []}{{ else }}{{ dict "volumes" (list $volume) "mounts" (list $mount) | toYaml }}{{ end -}}
{{- end }}

{{/* The probes of a driver, of (dict "socket" <path of its CSI socket> "sidecar" <whether the community's probe runs>).
     Both ask through the CSI socket, where no stranger can connect (docs/decisions/0039). The driver is alive as long as it
     answers, and ready when its condition is empty: a missing permission is reported, and a restart does not fix it
     (docs/decisions/0014). Readiness is lost as slowly as liveness. A rollout waits for readiness node by node, so the command
     for it waits too, and notices readiness at once. The community's probe has only one answer, which is readiness. */}}
{{- define "hyperpod-ebs.probes" -}}
livenessProbe:
  exec:
    command: [/usr/bin/hyperpod-ebs-probe, alive, {{ .socket }}, "12"]
  initialDelaySeconds: 10
  periodSeconds: 30
  timeoutSeconds: 15
  failureThreshold: 3
readinessProbe:
  {{- if .sidecar }}
  httpGet:
    path: /healthz
    port: healthz
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 45
  {{- else }}
  exec:
    command: [/usr/bin/hyperpod-ebs-probe, ready, {{ .socket }}, "8"]
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 9
  {{- end }}
{{- end }}

{{/* The address of a driver's health pages, for people, of (dict "sidecar" <as above>), as "argument" and "ports". The community's probe
     listens on 9808, so the driver uses another port if that probe runs. A probe finds a port by its name in its own container, also if another
     container of the pod listens there. */}}
{{- define "hyperpod-ebs.health" -}}
{{- if .sidecar -}}
argument: --health-endpoint=:9810
ports: {healthz: 9808, livez: 9810}
{{- else -}}
argument: --health-endpoint=:9808
ports: {healthz: 9808}
{{- end }}
{{- end }}
