"""Writes LiteLLM's standard logging payload as JSON lines: numbers and names, no messages and no answers.

Put this file beside LiteLLM's config.yaml and name it there:

    litellm_settings:
      callbacks: litellm_usage_log.writer

The lines go to $LITELLM_USAGE_LOG, /var/log/litellm/usage.jsonl by default; the file may be rotated by rename.
"""

import json
import logging
import os
from logging.handlers import WatchedFileHandler

from litellm.integrations.custom_logger import CustomLogger

KEPT = (
    "id", "call_type", "status", "model", "model_group", "prompt_tokens", "completion_tokens", "total_tokens",
    "startTime", "endTime", "cache_hit", "request_tags", "end_user",
)  # fmt: skip
KEPT_METADATA = (
    "user_api_key_team_id", "user_api_key_team_alias", "user_api_key_alias", "user_api_key_user_id",
    "user_api_key_org_alias", "user_api_key_project_alias", "usage_object",
)  # fmt: skip
KEPT_OF_CLIENTS = (
    "agent_task", "agent_task_id", "task_id", "session", "session_id", "litellm_session_id", "agent", "agent_name", "agent_id",
)  # fmt: skip
KEPT_HEADERS = ("x-agent-task", "x-agent-task-id", "x-session-id", "x-agent", "x-agent-name")
KEPT_ERROR = ("error_code", "error_class")  # not its message, which may quote the prompt


def tier_of(payload):
    """How the request was served, as the answer says; else as it was asked for. Nothing else of either is kept."""
    for holder in (payload.get("response"), payload.get("model_parameters")):
        if isinstance(holder, dict) and holder.get("service_tier"):
            return holder["service_tier"]
    return None


class UsageLog(CustomLogger):
    def __init__(self):
        super().__init__()
        self._log = logging.Logger("litellm_usage")
        self._log.addHandler(WatchedFileHandler(os.environ.get("LITELLM_USAGE_LOG", "/var/log/litellm/usage.jsonl")))

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self._write(kwargs)

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        self._write(kwargs)

    def _write(self, kwargs):
        payload = kwargs.get("standard_logging_object")
        if payload is None:
            return
        line = {name: payload.get(name) for name in KEPT}
        metadata = payload.get("metadata") or {}
        line["service_tier"] = tier_of(payload)
        line["metadata"] = {name: metadata.get(name) for name in KEPT_METADATA}
        for sent, kept in (
            ("spend_logs_metadata", KEPT_OF_CLIENTS),
            ("requester_metadata", KEPT_OF_CLIENTS),
            ("requester_custom_headers", KEPT_HEADERS),
        ):
            values = metadata.get(sent)
            if isinstance(values, dict):
                line["metadata"][sent] = {name: values[name] for name in kept if name in values}
        error = payload.get("error_information") or {}
        line["error_information"] = {name: error.get(name) for name in KEPT_ERROR}
        self._log.info(json.dumps(line, default=str, separators=(",", ":")))


writer = UsageLog()
