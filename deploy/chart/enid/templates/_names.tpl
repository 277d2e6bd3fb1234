{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* Names, labels, images, variables: what several objects share. */}}

{{- define "enid.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "enid.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "enid.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "enid.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "enid.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "enid.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "enid.selector" -}}
app.kubernetes.io/name: {{ include "enid.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "enid.labels" -}}
{{ include "enid.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "enid.image" -}}
{{- with .Values.image }}
{{- if .override }}{{ .override }}
{{- else if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{/* A value as the daemon reads it. Numbers of a values file are floats: no 1e+06. */}}
{{- define "enid.text" -}}
{{- if kindIs "float64" . }}{{ . | int64 | toString | quote }}{{ else }}{{ . | toString | quote }}{{ end }}
{{- end }}

{{/* Variables from a list of maps, by name; later maps go before earlier ones. (Not `merge`: to that one `false` is nothing.) */}}
{{- define "enid.env" -}}
{{- $all := dict }}
{{- range . }}{{ range $name, $value := . }}{{ $_ := set $all $name $value }}{{ end }}{{ end }}
{{- range $name, $value := $all }}
- name: {{ $name }}
  value: {{ include "enid.text" $value }}
{{- end }}
{{- end }}

{{/* What `env` and the classes have for a variable, one after the other. Arguments: root, name. */}}
{{- define "enid.given" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}
{{- $maps := list $root.Values.env }}
{{- range $root.Values.nodeClasses.classes }}{{ $maps = append $maps (.env | default dict) }}{{ end }}
{{- range $maps }}{{ get . $name }}{{ end }}
{{- end }}
