{{/* Names and labels that several manifests share. */}}
{{- define "tokenyield.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The head of all names: at most 50 characters, so that pods' names fit with what is put behind it. */}}
{{- define "tokenyield.fullname" -}}
{{- $name := include "tokenyield.name" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* (dict "root" . "part" "agent") -> the name of its ServiceAccount */}}
{{- define "tokenyield.account" -}}
{{- $account := (index .root.Values .part).serviceAccount }}
{{- default (printf "%s-%s" (include "tokenyield.fullname" .root) .part) $account.name }}
{{- if not (or $account.create $account.name) }}{{ fail (printf "%s.serviceAccount.name: with create: false name an account of yours" .part) }}{{ end }}
{{- end }}

{{- define "tokenyield.selector" -}}
app.kubernetes.io/name: {{ include "tokenyield.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* (dict "root" . "part" "agent" "more" dict) */}}
{{- define "tokenyield.labels" -}}
{{- $own := include "tokenyield.selector" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- merge $own (default dict .more) (default dict .root.Values.commonLabels) | toYaml }}
{{- end }}

{{- define "tokenyield.image" -}}
{{- if .image.digest }}{{ printf "%s@%s" .image.repository .image.digest }}
{{- else }}{{ printf "%s:%v" .image.repository (default .root.Chart.AppVersion .image.tag) }}{{ end }}
{{- end }}

{{- define "tokenyield.service" -}}
{{ .Values.collector.webConfigIsTls | ternary "https" "http" }}://{{ include "tokenyield.fullname" . }}-collector.{{ .Release.Namespace }}.svc:{{ .Values.collector.service.port }}
{{- end }}

{{- define "tokenyield.collectorUrl" -}}
{{ default (include "tokenyield.service" .) .Values.agent.collectorUrl }}
{{- end }}

{{- define "tokenyield.runbooksUrl" -}}
{{- if .Values.monitoring.runbooksUrl }}{{ .Values.monitoring.runbooksUrl }}
{{- else if .Values.ingress.enabled }}{{ .Values.ingress.tlsSecret | empty | ternary "http" "https" }}://{{ .Values.ingress.host }}/runbooks
{{- else }}{{ include "tokenyield.collectorUrl" . | trimSuffix "/" }}/runbooks{{ end }}
{{- end }}

{{/* What platforms.yaml says of this platform, under what is set for the agent. As YAML. */}}
{{- define "tokenyield.platform" -}}
{{- $all := .Files.Get "platforms.yaml" | fromYaml }}
{{- if not (hasKey $all .Values.platform) }}{{ fail (printf "platform: expected one of %s, found %s" (keys $all | sortAlpha | join ", ") .Values.platform) }}{{ end }}
{{- $platform := merge (index $all .Values.platform) (dict "runtimeClassName" "" "driverPath" "" "kubeletPath" "/var/lib/kubelet" "scc" "") }}
{{- range $name := tuple "runtimeClassName" "driverPath" "kubeletPath" }}
{{- with index $.Values.agent $name }}{{ $_ := set $platform $name . }}{{ end }}
{{- end }}
{{- toYaml $platform }}
{{- end }}

{{/* Not empty where agents exchange their ServiceAccount tokens. */}}
{{- define "tokenyield.enrols" -}}
{{- if and .Values.enrolment.enabled (not .Values.collector.insecure) }}yes{{ end }}
{{- end }}

{{/* (dict "name" "prices" "from" {configMap, secret, key} "text" text) -> the file's path in the collector, or nothing. */}}
{{- define "tokenyield.policySource" -}}
{{- if and .from.configMap .from.secret }}{{ fail (printf "collector.%sFrom: name a configMap or a secret, not both" .name) }}{{ end }}
{{- $named := or .from.configMap .from.secret }}
{{- if and $named .text }}{{ fail (printf "collector.%s: is given as text and by collector.%sFrom; keep one" .name .name) }}{{ end }}
{{- if $named }}/etc/tokenyield-{{ .name }}/{{ .from.key }}{{ else if .text }}/etc/tokenyield/{{ .name }}.yaml{{ end }}
{{- end }}

{{/* Of the collector and `helm test`. OpenShift gives each namespace users of its own. */}}
{{- define "tokenyield.podSecurity" -}}
{{- $context := .Values.collector.podSecurityContext }}
{{- if (include "tokenyield.platform" . | fromYaml).scc }}{{ $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}{{ end }}
{{- toYaml $context }}
{{- end }}
