{{/* The settings of both programs, as their files. */}}
{{- define "tokenyield.agentConfig" -}}
{{- $own := dict "cluster" .Values.clusterName "collector_url" (include "tokenyield.collectorUrl" .) "state_dir" "/state"
  "status_listen" "0.0.0.0:9465" "proc_dir" "/proc" "pods_dir" "/var/log/pods" "log_format" "json" }}
{{- if include "tokenyield.enrols" . }}{{ $_ := set $own "enrol_token_file" "/run/secrets/enrol/token" }}
{{- else if .Values.tokenSecret }}{{ $_ := set $own "collector_token_file" "/run/secrets/tokenyield/token" }}{{ end }}
{{- if .Values.collector.caSecret }}{{ $_ := set $own "collector_ca_file" "/run/secrets/collector-ca/ca.crt" }}{{ end }}
{{- if .Values.agent.webConfigSecret }}{{ $_ := set $own "web_config_file" "/run/secrets/web/web.yaml" }}
{{- else if or .Values.networkPolicy.enabled .Values.agent.insecure }}{{ $_ := set $own "insecure" true }}
{{- else }}{{ fail "agent.webConfigSecret: nothing keeps others from the agents' /metrics; name such a Secret, set networkPolicy.enabled, or agent.insecure: true" }}{{ end }}
{{- toYaml (mergeOverwrite $own .Values.agent.config) }}
{{- end }}

{{- define "tokenyield.collectorConfig" -}}
{{- $own := dict "listen" "0.0.0.0:9464" "log_format" "json" }}
{{- if .Values.collector.clickhouse.url }}{{ $_ := merge $own (dict "ledger_url" .Values.collector.clickhouse.url "ledger_cluster" .Values.collector.clickhouse.cluster) }}
{{- if .Values.collector.clickhouse.passwordSecret }}{{ $_ := set $own "ledger_password_file" "/run/secrets/clickhouse/password" }}{{ end }}
{{- else }}{{ $_ := set $own "ledger_path" "/state/ledger.duckdb" }}{{ end }}
{{- if .Values.collector.webConfigSecret }}{{ $_ := set $own "web_config_file" "/run/secrets/web/web.yaml" }}{{ end }}
{{- if .Values.tokenSecret }}{{ $_ := set $own "token_file" "/run/secrets/tokenyield/tokens" }}{{ else if .Values.collector.insecure }}{{ $_ := set $own "insecure" true }}
{{- else }}{{ fail "tokenSecret: name a Secret with the keys tokens and reader (see the chart's README), or set collector.insecure: true if something in front authenticates" }}{{ end }}
{{- if include "tokenyield.enrols" . }}
{{- $account := printf "%s/%s" .Release.Namespace (include "tokenyield.account" (dict "root" . "part" "agent")) }}
{{- $may := .Values.agent.config.gateways | empty | ternary "write" "write,gateway" }}
{{- $entry := dict "cluster" .Values.clusterName "service_account" $account "audience" .Values.enrolment.audience "may" $may }}
{{- $entries := list }}{{ $isAll := false }}
{{- range .Values.enrolment.scopes }}{{ $entries = append $entries (merge (deepCopy .) $entry) }}{{ $isAll = or $isAll (has "*" .nodes) }}{{ end }}
{{- $_ := set $own "enrol_kubernetes" ($isAll | ternary $entries (append $entries $entry)) }}
{{- if .Values.enrolment.keySecret }}{{ $_ := set $own "enrol_key_file" "/run/secrets/enrol/key" }}
{{- else if .Values.collector.clickhouse.url }}{{ fail "enrolment.keySecret: several collectors need one key; name a Secret with the key `key` (see the chart's README), or set enrolment.enabled: false" }}{{ end }}
{{- $_ := set $own "enrol_dir" (.Values.collector.clickhouse.url | empty | ternary "/state/enrol" "/tmp/enrol") }}
{{- end }}
{{- with include "tokenyield.policySource" (dict "name" "prices" "from" .Values.collector.pricesFrom "text" .Values.collector.prices) }}{{ $_ := set $own "prices_file" . }}{{ end }}
{{- with include "tokenyield.policySource" (dict "name" "attribution" "from" .Values.collector.attributionFrom "text" .Values.collector.attribution) }}{{ $_ := set $own "attribution_file" . }}{{ end }}
{{- if .Values.collector.spend.accounts }}{{ $_ := set $own "spend_file" "/etc/tokenyield/spend.yaml" }}{{ end }}
{{- if .Values.collector.spend.folderClaim }}{{ $_ := set $own "spend_folder" "/run/spend" }}{{ end }}
{{- toYaml (mergeOverwrite $own .Values.collector.config) }}
{{- end }}
