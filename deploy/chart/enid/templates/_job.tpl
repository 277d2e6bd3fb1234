{{- /* SPDX-License-Identifier: Apache-2.0 */}}
{{/* A command of ipamd's on one node, without the daemon: root, node, name, command. Privileged, because settings of the node and its
network are changed; with the daemon's own settings, which say where its files are. */}}
{{- define "enid.job" -}}
{{- $root := .root -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ printf "%s-%s-%s" (include "enid.fullname" $root) .name (sha256sum .node | trunc 10) }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "enid.labels" $root | nindent 4 }}
spec:
  backoffLimit: 3
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      nodeName: {{ .node }}
      hostNetwork: true
      restartPolicy: Never
      enableServiceLinks: false
      automountServiceAccountToken: false
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      tolerations:
        - operator: Exists
      containers:
        - name: {{ .name }}
          image: {{ include "enid.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: {{ .command | toJson }}
          {{- with $root.Values.env }}
          env:
            {{- include "enid.env" (list .) | trim | nindent 12 }}
          {{- end }}
          securityContext:
            privileged: true
            readOnlyRootFilesystem: true
            runAsUser: 0
          volumeMounts:
            - {name: run-dir, mountPath: /var/run/aws-node}
      volumes:
        - name: run-dir
          hostPath: {path: /var/run/aws-node, type: DirectoryOrCreate}
{{- end }}
