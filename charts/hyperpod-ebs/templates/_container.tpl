{{/* What all containers are made of. */}}

{{/* Arguments of (dict "ours" <list> "additional" <list>): one that sets a flag of ours stands in for it. */}}
{{- define "hyperpod-ebs.arguments" -}}
{{- $flags := list -}}
{{- range .additional }}{{ $flags = append $flags (splitList "=" . | first | trimPrefix "-" | trimPrefix "-") }}{{ end -}}
{{- $arguments := list -}}
{{- range .ours }}
{{- if not (has (splitList "=" . | first | trimPrefix "-" | trimPrefix "-") $flags) }}{{ $arguments = append $arguments . }}{{ end -}}
{{- end -}}
{{- concat $arguments (.additional | default list) | toYaml }}
{{- end }}

{{/* Environment of (dict "root" $ "ours" <list> "additional" <list>). */}}
{{- define "hyperpod-ebs.environment" -}}
{{- $environment := .ours -}}
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
     and as wanted ports and probes: what a probe's field is called, and the probe. */}}
{{- define "hyperpod-ebs.container" -}}
name: {{ .name }}
image: {{ .image }}
imagePullPolicy: {{ include "hyperpod-ebs.pull-policy" (dict "image" .image "policy" (.pullPolicy | default .root.Values.image.pullPolicy)) }}
args:
  {{- include "hyperpod-ebs.arguments" (dict "ours" .arguments "additional" .additionalArgs) | nindent 2 }}
{{- with include "hyperpod-ebs.environment" (dict "root" .root "ours" .environment "additional" .env) | fromYamlArray }}
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

{{/* Where the driver's container keeps what it must write, for its root is read-only: volume and mount of (dict "mounts"
     <the user's>), as lists. Nothing where the user has mounted a /tmp of their own. */}}
{{- define "hyperpod-ebs.scratch" -}}
{{- $theirs := list -}}
{{- range .mounts }}{{ $theirs = append $theirs (trimSuffix "/" .mountPath) }}{{ end -}}
{{- $volume := dict "name" "ebs-scratch" "emptyDir" (dict "medium" "Memory" "sizeLimit" "16Mi") -}}
{{- $mount := dict "name" "ebs-scratch" "mountPath" "/tmp" -}}
{{- if has "/tmp" $theirs }}{volumes: [], mounts: []}{{ else }}{{ dict "volumes" (list $volume) "mounts" (list $mount) | toYaml }}{{ end -}}
{{- end }}

{{/* The probes of a driver, of (dict "timeout" <seconds> "failures" <how many> "sidecar" <whether the community's probe runs>).
     It lives as long as its event loop answers, and is ready when nothing keeps it from working: a missing permission is
     told, and no restart mends it (docs/decisions/0014). The community's probe knows one answer only, which is readiness.
     Readiness is asked at once and often, for a rollout waits for it node by node; it takes as long to lose as liveness. */}}
{{- define "hyperpod-ebs.probes" -}}
{{- $living := dict "initialDelaySeconds" 10 "periodSeconds" 10 "timeoutSeconds" .timeout "failureThreshold" .failures -}}
{{- $ready := dict "periodSeconds" 2 "timeoutSeconds" .timeout "failureThreshold" (mul 5 .failures) -}}
livenessProbe:
  httpGet:
    path: /livez
    port: {{ ternary "livez" "healthz" .sidecar }}
  {{- toYaml $living | nindent 2 }}
readinessProbe:
  httpGet:
    path: /healthz
    port: healthz
  {{- toYaml $ready | nindent 2 }}
{{- end }}

{{/* Where a driver serves its health, of (dict "sidecar" <as above>), as "argument" and "ports". A probe finds a port by
     its name in its own container, whoever listens there: beside the community's probe, which is at 9808, ours moves. */}}
{{- define "hyperpod-ebs.health" -}}
{{- if .sidecar -}}
argument: --health-endpoint=:9810
ports: {healthz: 9808, livez: 9810}
{{- else -}}
argument: --health-endpoint=:9808
ports: {healthz: 9808}
{{- end }}
{{- end }}
