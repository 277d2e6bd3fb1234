{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* A DaemonSet. Arguments: root; name; class, empty for the plain one; env, a list of maps; resources; where, further expressions of node affinity. */}}
{{- define "enid.daemonset" -}}
{{- $root := .root }}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "enid.labels" $root | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "enid.selector" $root | nindent 6 }}
      enid-class: {{ .class | default "none" | quote }}
  updateStrategy:
    {{- toYaml $values.updateStrategy | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "enid.selector" $root | nindent 8 }}
        enid-class: {{ .class | default "none" | quote }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      # It gives the node its network: it has the host's, and the host's resolver.
      hostNetwork: true
      dnsPolicy: Default
      # A Service called `enid` would put ENID_PORT and the like into the environment, which the daemon takes for mistakes.
      enableServiceLinks: false
      serviceAccountName: {{ include "enid.serviceAccount" $root }}
      automountServiceAccountToken: {{ or $values.features.kubernetes $values.nodeAgent.enabled }}
      priorityClassName: {{ $values.priorityClassName }}
      terminationGracePeriodSeconds: 10
      {{- with $values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- merge (dict) $values.podSecurityContext (dict "seccompProfile" (dict "type" "RuntimeDefault")) | toYaml | nindent 8 }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      tolerations:
        {{- toYaml $values.tolerations | nindent 8 }}
      affinity:
        {{- include "enid.affinity" . | nindent 8 }}
      initContainers:
        {{- include "enid.init" . | nindent 8 }}
      containers:
        {{- include "enid.daemon" . | nindent 8 }}
        {{- if $values.nodeAgent.enabled }}
        {{- include "enid.agent" . | nindent 8 }}
        {{- end }}
      volumes:
        - name: cni-bin-dir
          hostPath: {path: /opt/cni/bin, type: DirectoryOrCreate}
        - name: cni-net-dir
          hostPath: {path: /etc/cni/net.d, type: DirectoryOrCreate}
        - name: log-dir
          hostPath: {path: /var/log/aws-routed-eni, type: DirectoryOrCreate}
        - name: run-dir
          hostPath: {path: /var/run/aws-node, type: DirectoryOrCreate}
        # No annotation has its checksum: the daemon reads it again and again, and no pod is to be started anew for it.
        - name: settings
          configMap: {name: {{ include "enid.fullname" $root }}-settings}
        {{- with $values.runtimeSocket }}
        - name: runtime-dir
          hostPath: {path: {{ dir . }}, type: Directory}
        {{- end }}
        {{- if $values.nodeAgent.enabled }}
        - name: bpf-pin-path
          hostPath: {path: /sys/fs/bpf}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{/* Where pods go. Every term of the values' node affinity gets our expressions; aws-node's nodes are waited for. */}}
{{- define "enid.affinity" -}}
{{- $values := .root.Values }}
{{- $where := .where }}
{{- if eq $values.takeover.mode "perNode" }}
{{- $where = append $where (dict "key" $values.takeover.nodeLabel "operator" "In" "values" (list "true")) }}
{{- end }}
{{- $affinity := deepCopy $values.affinity }}
{{- if $where }}
{{- $node := get $affinity "nodeAffinity" | default dict }}
{{- $required := get $node "requiredDuringSchedulingIgnoredDuringExecution" | default dict }}
{{- $terms := list }}
{{- range (get $required "nodeSelectorTerms" | default (list dict)) }}
{{- $terms = append $terms (merge (dict "matchExpressions" (concat (get . "matchExpressions" | default list) $where)) .) }}
{{- end }}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
{{- $_ := set $affinity "nodeAffinity" $node }}
{{- end }}
{{- /* Never beside aws-node: our pod waits until that one is gone from the node. Not for ours, should they have its label. */}}
{{- $theirs := dict "topologyKey" "kubernetes.io/hostname" "namespaceSelector" dict "labelSelector" (dict "matchExpressions" (list
    (dict "key" "k8s-app" "operator" "In" "values" (list "aws-node"))
    (dict "key" "app.kubernetes.io/name" "operator" "NotIn" "values" (list (include "enid.name" .root))))) }}
{{- $anti := get $affinity "podAntiAffinity" | default dict }}
{{- $_ := set $anti "requiredDuringSchedulingIgnoredDuringExecution" (append (get $anti "requiredDuringSchedulingIgnoredDuringExecution" | default list) $theirs) }}
{{- $_ := set $affinity "podAntiAffinity" $anti }}
{{- toYaml $affinity }}
{{- end }}
