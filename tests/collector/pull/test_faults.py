"""Vendors that are slow, down, wrong or that change what they answer: it costs their own days, and they are named."""

import logging
from dataclasses import replace
from email.utils import formatdate

import pytest

from collector.pull.conftest import Pulling, ago
from collector.pull.rows import anthropic_cost, litellm_row, openai_cost, openai_usage
from collector.pull.vendors import KEY, HtmlPage, Refusal
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.pull import exchange
from tokenyield_collector.pull.vendors import load_vendor

COST = {"reports": ["analytics_cost"]}


def micros(pulling: Pulling) -> dict[int, int]:
    return {days: micro for (_, days), (micro, _) in pulling.totals().items()}


def test_restated_days_are_replaced_and_withdrawn_ones_removed(pulling: Pulling) -> None:
    rows, account = pulling.vendors.rows, pulling.account("anthropic", **COST)
    for days in (1, 3, 7, 8):
        rows["analytics/cost", ago(days)] = [anthropic_cost("100")]
    pulling.pull(account)
    assert micros(pulling) == {1: 1_000_000, 3: 1_000_000, 7: 1_000_000, 8: 1_000_000}
    rows["analytics/cost", ago(1)] = [anthropic_cost("120"), anthropic_cost("30", model="late")]
    del rows["analytics/cost", ago(3)]
    rows["analytics/cost", ago(7)] = [anthropic_cost("90")]
    rows["analytics/cost", ago(8)] = [anthropic_cost("1")]
    pulling.pull(account)
    assert micros(pulling) == {1: 1_500_000, 7: 900_000, 8: 1_000_000}, "the last seven days are pulled again"


def test_days_missed_in_an_outage_are_made_up(pulling: Pulling) -> None:
    rows, account = pulling.vendors.rows, pulling.account("anthropic", **COST)
    for days in range(-12, 11):
        rows["analytics/cost", ago(days)] = [anthropic_cost("100")]
    pulling.pull(account)
    success_at_ms = next(iter(pulling.puller.states)).success_at_ms
    pulling.vendors.before = lambda path: (_ for _ in ()).throw(Refusal(503))
    for missing in (1, 2, 3):
        pulling.clock.next_day()
        state = pulling.pull(account)
        assert (state.missing_days, state.refused["unavailable"]) == (missing, missing)
        assert "HTTP 503" in state.problems["analytics_cost"]
        assert state.success_at_ms == success_at_ms
    pulling.clock.next_day(9)
    pulling.restart()
    pulling.vendors.before = lambda path: None
    state = pulling.pull(account)
    assert (state.missing_days, state.problems) == (0, {})
    assert sorted(micros(pulling)) == list(range(-11, 11)), "twelve days, of which five are before the last week"


@pytest.mark.parametrize("wait", ["17", "date"])
def test_retry_after_is_obeyed(wait: str, pulling: Pulling) -> None:
    pulling.vendors.rows["analytics/cost", ago(1)] = [anthropic_cost("100")] * 5
    busy = [2]

    def sometimes(path: str) -> None:
        if pulling.vendors.asked[path] > 1 and busy[0]:  # not the first page
            busy[0] -= 1
            after = formatdate(pulling.clock.ms / 1000 + 17, usegmt=True) if wait == "date" else wait
            raise Refusal(429, {"Retry-After": after})

    pulling.vendors.before = sometimes
    state = pulling.pull(pulling.account("anthropic", **COST))
    assert state.problems == {}
    assert micros(pulling) == {1: 5_000_000}, "no page twice, and none lost"
    assert pulling.clock.slept == [17.0, 17.0]


def test_a_vendor_that_stays_busy_is_given_up_until_the_next_time(pulling: Pulling) -> None:
    pulling.vendors.before = lambda path: (_ for _ in ()).throw(Refusal(429))
    state = pulling.pull(pulling.account("anthropic", **COST))
    assert pulling.clock.slept == [5.0, 10.0, 20.0, 40.0, 80.0]
    assert (state.refused["rate"], state.missing_days) == (1, 10)
    pulling.vendors.before = lambda path: (_ for _ in ()).throw(Refusal(429, {"Retry-After": "86400"}))
    pulling.clock.slept.clear()
    pulling.pull(pulling.account("anthropic", **COST))
    assert pulling.clock.slept == [], "a day is longer than a pull may wait"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_asked_once_and_named_nowhere(
    status: int, pulling: Pulling, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pulling.vendors.before = lambda path: (_ for _ in ()).throw(Refusal(status, body=KEY.encode()))
    state = pulling.pull(pulling.account("anthropic", **COST))
    assert pulling.vendors.asked.total() == 1
    assert state.refused["key"] == 1
    assert f"the key is refused (HTTP {status})" in state.problems["analytics_cost"]
    assert KEY not in caplog.text + repr(state)
    pulling.key_file.write_text(KEY)
    pulling.vendors.before = lambda path: None
    assert pulling.pull(pulling.account("anthropic", **COST)).problems == {}, "a new key counts at once"


@pytest.mark.parametrize("content", ["", "two\nlines", "key\x07", "\u00e9", "k" * 9000])
def test_a_key_file_that_cannot_be_a_key_is_not_sent(content: str, pulling: Pulling) -> None:
    account = pulling.account("anthropic", **COST)
    pulling.key_file.write_text(content)
    state = pulling.pull(account)
    assert state.refused["key"] == 1
    assert pulling.vendors.asked.total() == 0
    pulling.key_file.unlink()
    assert "cannot be read" in pulling.pull(account).problems["analytics_cost"]


@pytest.mark.parametrize(
    ("status", "headers", "body", "why"),
    [
        (200, {"Content-Type": "text/html"}, HtmlPage, "found HTML (a page to log in?)"),
        (200, {}, b'{"data": [', "found what is no JSON"),
        (200, {}, b'{"error": "x"}', "document: expected an answer of analytics/usage"),
        (200, {}, b"[]", "document: expected"),
        (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b", "not compressed"),
        (302, {"Location": "http://127.0.0.1:1/"}, b"", "expected no redirect"),
        (404, {}, b"{}", "HTTP 404"),
        (200, {}, b'{"data": [], "has_more": true, "next_page": null}', "found one that was read before"),
    ],
)
def test_an_answer_that_is_none_leaves_what_is_there(
    status: int, headers: dict[str, str], body: bytes, why: str, pulling: Pulling
) -> None:
    account = pulling.account("anthropic", **COST)
    pulling.vendors.rows["analytics/cost", ago(1)] = [anthropic_cost("100")]
    pulling.pull(account)
    pulling.vendors.before = lambda path: (_ for _ in ()).throw(Refusal(status, headers, body))
    state = pulling.pull(account)
    assert why in state.problems["analytics_cost"]
    assert state.refused["answer"] == 1
    assert micros(pulling) == {1: 1_000_000}


def test_an_endless_report_ends_at_the_bound_of_pages(pulling: Pulling, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = load_vendor("anthropic").reports
    monkeypatch.setattr(
        "tokenyield_collector.pull.vendors.anthropic.VENDOR",
        replace(load_vendor("anthropic"), reports={"analytics_cost": replace(reports["analytics_cost"], pages_max=5)}),
    )
    pulling.vendors.rows["analytics/cost", ago(1)] = [anthropic_cost("1")] * 50
    state = pulling.pull(pulling.account("anthropic", **COST, start=str(ago(1))))
    assert "at most 5 pages" in state.problems["analytics_cost"]
    assert (pulling.vendors.asked.total(), pulling.slices) == (5, [])


def test_an_answer_is_read_up_to_its_bound(pulling: Pulling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "ANSWER_BYTES_MAX", 100)
    pulling.vendors.rows["analytics/cost", ago(1)] = [anthropic_cost("100")]
    state = pulling.pull(pulling.account("anthropic", **COST))
    assert "at most 100 bytes" in state.problems["analytics_cost"]


def test_a_bad_day_costs_itself_and_not_its_span(pulling: Pulling) -> None:
    rows = pulling.vendors.rows
    for days in range(1, 11):
        rows["analytics/cost", ago(days)] = [anthropic_cost("100")]
    rows["analytics/cost", ago(4)] = [anthropic_cost("much")] * 30
    state = pulling.pull(pulling.account("anthropic", **COST))
    assert sorted(micros(pulling)) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert state.missing_days == 1
    assert "cost.amount: expected an amount of money, found 'much'" in state.problems["analytics_cost"]


def test_rows_of_other_days_than_were_asked_for_are_refused(pulling: Pulling) -> None:
    """A vendor that no longer takes a parameter answers with all days: they would be added to these."""
    pulling.vendors.rows["logs", ago(1)] = [litellm_row(f"{ago(5)}T10:00:00Z", 1.0, 1)]
    pulling.vendors.rows["logs", ago(4)] = [litellm_row(f"{ago(4)}T10:00:00Z", 1.0, 2)]
    state = pulling.pull(pulling.account("litellm"))
    assert f"found some of {ago(5)}" in state.problems["spend_log"]
    assert micros(pulling) == {4: 1_000_000}


def test_one_report_that_fails_costs_no_other(pulling: Pulling) -> None:
    pulling.vendors.rows["costs", ago(1)] = [openai_cost(1.5)]
    pulling.vendors.rows["usage/completions", ago(1)] = [openai_usage(10, 20, 1)]  # more cached than there is
    pulling.vendors.rows["usage/images", ago(1)] = [openai_usage(1, 0, 1, "images")]
    state = pulling.pull(pulling.account("openai"))
    assert list(state.problems) == ["completions"]
    assert pulling.totals() == {("costs", 1): (1_500_000, 0), ("usage:images", 1): (0, 2)}
    assert state.success_at_ms is None


def test_a_ledger_that_cannot_be_written_is_tried_again(pulling: Pulling, monkeypatch: pytest.MonkeyPatch) -> None:
    account = pulling.account("anthropic", **COST)
    pulling.vendors.rows["analytics/cost", ago(1)] = [anthropic_cost("100")]
    with monkeypatch.context() as patch:
        patch.setattr(pulling.ledger, "replace_spend", lambda *_: (_ for _ in ()).throw(LedgerError("disk full")))
        state = pulling.pull(account)
        assert (state.refused["ledger"], state.problems) == (1, {"analytics_cost": "disk full"})
    assert pulling.pull(account).problems == {}
    assert micros(pulling) == {1: 1_000_000}


def test_who_no_longer_leads_writes_nothing(pulling: Pulling) -> None:
    pulling.vendors.rows["analytics/cost", ago(1)] = [anthropic_cost("100")]
    pulling.leads = False
    assert pulling.pull(pulling.account("anthropic", **COST)).refused["ledger"] == 1
    assert pulling.slices == []


def test_people_are_kept_as_the_setting_says(pulling: Pulling) -> None:
    pulling.settings = type(pulling.settings)(people="team")
    pulling.restart()
    pulling.vendors.rows["analytics/cost", ago(1)] = [
        anthropic_cost("1", actor={"type": "user_actor", "email_address": "ada@example.com"})
    ]
    pulling.pull(pulling.account("anthropic", **COST))
    assert {line.fields.person for one in pulling.slices for line in one.lines} == {""}
    pulling.settings = type(pulling.settings)(people="pseudonym", people_key_file="/nowhere/key")
    pulling.restart()
    state = pulling.pull(pulling.account("anthropic", **COST))
    assert list(state.problems) == ["people"]
    assert state.success_at_ms is None
