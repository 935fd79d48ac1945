"""How a request ended, by the statuses and errors that gateways write."""

from typing import Any

import pytest

from tokenyield_agent.tokens.parsing.outcome import outcome_of


@pytest.mark.parametrize(
    "status", [200, "200", 200.0, "success", "succeeded", "completed", "incomplete", 302, None, True, 0]
)
def test_an_answer_is_a_request(status: Any) -> None:
    assert outcome_of(status) == "requests"


@pytest.mark.parametrize("status", [400, "429", 500.0, "failure", "Error", "errored", "expired"])
def test_a_status_of_failure_is_a_failed_request(status: Any) -> None:
    assert outcome_of(None, status) == "requests_failed"


@pytest.mark.parametrize(
    "status", [499, "499", 499.0, "canceled", "cancelled", "client_closed_request", "client_disconnected"]
)
def test_a_client_that_is_gone_is_an_aborted_request(status: Any) -> None:
    assert outcome_of(500, status) == "requests_aborted"


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (None, "requests"), ("", "requests"), ({}, "requests"), ({"error_code": "", "error_class": ""}, "requests"),
        ("-", "requests"), (False, "requests"), ("overloaded", "requests_failed"), ({"code": 500}, "requests_failed"),
        ({"message": "anything"}, "requests_failed"), ({"error": {"type": "x"}}, "requests_failed"),
        ({"error_class": "CancelledError"}, "requests_aborted"), ({"error_class": "ClientDisconnect"}, "requests_aborted"),
        ({"error_class": "ServerDisconnectedError"}, "requests_failed"), ({"code": "499"}, "requests_aborted"),
        ({"type": "server_error", "message": "client disconnected"}, "requests_failed"),
    ],
)  # fmt: skip
def test_an_error_says_how_a_request_ended_and_its_message_does_not(error: Any, ended: str) -> None:
    assert outcome_of(error=error) == ended
