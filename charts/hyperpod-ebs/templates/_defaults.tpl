{{/* Defaults of values.yaml, for comparisons. Made by `make generate`. */}}
{{- define "hyperpod-ebs.defaults" -}}
node.probeDirVolume:
  emptyDir: {}
sidecars.livenessProbe:
  additionalArgs: []
  enabled: false
  image:
    pullPolicy: IfNotPresent
    repository: csi-components/livenessprobe
    tag: v2.19.0
  resources:
    limits:
      memory: 64Mi
    requests:
      cpu: 10m
      memory: 32Mi
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop:
      - ALL
    readOnlyRootFilesystem: true
    seccompProfile:
      type: RuntimeDefault
sidecars.nodeDriverRegistrar:
  additionalArgs: []
  enabled: false
  env: []
  healthPort: 9809
  image:
    pullPolicy: IfNotPresent
    repository: csi-components/csi-node-driver-registrar
    tag: v2.17.0
  livenessProbe: {}
  logLevel: 2
  resources:
    limits:
      memory: 64Mi
    requests:
      cpu: 10m
      memory: 32Mi
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop:
      - ALL
    readOnlyRootFilesystem: true
    seccompProfile:
      type: RuntimeDefault
{{- end }}
