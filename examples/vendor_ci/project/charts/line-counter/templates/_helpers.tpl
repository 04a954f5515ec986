{{- define "line-counter.labels" -}}
app.kubernetes.io/name: line-counter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
