{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* The containers of a DaemonSet's pod; arguments as enid.daemonset. */}}

{{/* Puts the plugin into the runtime's folder, and sets the node's sysctls when asked. */}}
{{- define "enid.init" -}}
{{- $values := .root.Values -}}
- name: install
  image: {{ include "enid.image" .root }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  command: [/ipamd, install]
  env:
    {{- include "enid.env" (concat .env (list $values.init.env (dict "HOST_CNI_BIN_PATH" "/host/opt/cni/bin"))) | trim | nindent 4 }}
  securityContext:
    {{- if $values.init.sysctls }}
    # /proc/sys can be written only by who is privileged.
    privileged: true
    {{- else }}
    allowPrivilegeEscalation: false
    capabilities:
      drop: [ALL]
      # /opt/cni/bin belongs to another user on some nodes (the user that the CNI plugins' archive was made by).
      add: [DAC_OVERRIDE]
    {{- end }}
    readOnlyRootFilesystem: true
    # The folders belong to root.
    runAsUser: 0
  {{- with $values.init.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - {name: cni-bin-dir, mountPath: /host/opt/cni/bin}
    # What the sysctls were before they are set is kept there, for the uninstall.
    - {name: run-dir, mountPath: /var/run/aws-node}
{{- end }}

{{- define "enid.daemon" -}}
{{- $values := .root.Values -}}
{{- $first := dict }}
{{- if $values.nodeAgent.enabled }}{{ $_ := set $first "NETWORK_POLICY_ENFORCING_MODE" "standard" }}{{ end }}
{{- $last := dict "HOST_CNI_CONFDIR_PATH" "/host/etc/cni/net.d" "ENID_SETTINGS_FILE" "/etc/enid/settings/settings.yaml" }}
{{- with $values.runtimeSocket }}{{ $_ := set $last "ENID_RUNTIME_ENDPOINT" . }}{{ end }}
{{- $env := concat (list $first) .env (list $last) -}}
- name: ipamd
  image: {{ include "enid.image" .root }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  command: [/ipamd, run]
  env:
    {{- if $values.features.kubernetes }}
    - name: MY_NODE_NAME
      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: spec.nodeName}}
    {{- end }}
    - name: MY_POD_NAME
      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}
    - name: MY_POD_NAMESPACE
      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}
    {{- include "enid.env" $env | trim | nindent 4 }}
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    # Of the host's network: the scheduler puts no two daemons that say so on one node, aws-node included.
    - {name: metrics, containerPort: 61678, protocol: TCP}
  livenessProbe:
    {{- merge (dict) $values.livenessProbe (dict "exec" (dict "command" (list "/ipamd" "probe" "live")) "timeoutSeconds" $values.livenessProbeTimeoutSeconds) | toYaml | nindent 4 }}
  readinessProbe:
    {{- merge (dict) $values.readinessProbe (dict "exec" (dict "command" (list "/ipamd" "probe" "ready")) "timeoutSeconds" $values.readinessProbeTimeoutSeconds) | toYaml | nindent 4 }}
  securityContext:
    {{- if $values.securityContext }}
    {{- toYaml $values.securityContext | nindent 4 }}
    {{- else }}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    # The socket and the state belong to root; nothing of root's power is left but the two below.
    runAsUser: 0
    capabilities:
      drop: [ALL]
      # NET_ADMIN: links, routes, rules, nftables and conntrack by netlink. NET_RAW: as the reference has it (value netRaw).
      add: [NET_ADMIN{{ if ne $values.netRaw false }}, NET_RAW{{ end }}]
    {{- end }}
  {{- with .resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - {name: cni-net-dir, mountPath: /host/etc/cni/net.d}
    - {name: run-dir, mountPath: /var/run/aws-node}
    # Only written to when AWS_VPC_K8S_CNI_LOG_FILE says so.
    - {name: log-dir, mountPath: /host/var/log/aws-routed-eni}
    # The folder, not the file: only so does kubelet follow the ConfigMap.
    - {name: settings, mountPath: /etc/enid/settings, readOnly: true}
    {{- with $values.runtimeSocket }}
    # The folder, not the socket: a runtime that starts again makes a new one.
    - {name: runtime-dir, mountPath: {{ dir . }}, readOnly: true}
    {{- end }}
    {{- with $values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* amazon-vpc-cni-k8s' network policy agent, as its own chart runs it. */}}
{{- define "enid.agent" -}}
{{- $root := .root.Values }}
{{- with .root.Values.nodeAgent -}}
- name: aws-eks-nodeagent
  image: {{ .image.override | default (printf "%s:%s" .image.repository .image.tag) }}
  imagePullPolicy: {{ .image.pullPolicy }}
  args:
    - --enable-ipv6=false
    - --enable-network-policy={{ $root.enableNetworkPolicy }}
    - --enable-cloudwatch-logs={{ .enableCloudWatchLogs }}
    - --enable-policy-event-logs={{ .enablePolicyEventLogs }}
    - --log-file={{ .networkPolicyAgentLogFileLocation }}
    - --metrics-bind-addr=:{{ .metricsBindAddr }}
    - --health-probe-bind-addr=:{{ .healthProbeBindAddr }}
    - --conntrack-cache-cleanup-period={{ .conntrackCacheCleanupPeriod | int64 }}
    - --conntrack-cache-table-size={{ .conntrackCacheTableSize | int64 }}
    - --log-level={{ .logLevel }}
  env:
    - name: MY_NODE_NAME
      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: spec.nodeName}}
  ports:
    - {name: agentmetrics, containerPort: {{ .metricsBindAddr }}, protocol: TCP}
  securityContext:
    {{- toYaml .securityContext | nindent 4 }}
  {{- with .resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - {name: cni-bin-dir, mountPath: /host/opt/cni/bin}
    - {name: bpf-pin-path, mountPath: /sys/fs/bpf}
    - {name: log-dir, mountPath: /var/log/aws-routed-eni}
    - {name: run-dir, mountPath: /var/run/aws-node}
{{- end }}
{{- end }}
