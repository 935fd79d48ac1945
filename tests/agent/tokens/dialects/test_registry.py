"""The registry: every file of the package is in it, in an order that the files themselves demand, with its recordings."""

import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings import COMMANDS, EXPECTED, LOGS, PAGES, RUNS
from tokenyield_agent.tokens import dialects
from tokenyield_agent.tokens.dialects.base import Gateway, ProcessNames, Server
from tokenyield_agent.tokens.dialects.registry import (
    GATEWAYS,
    SERVERS,
    in_order,
    log_advice,
    reports_tokens,
    with_own_processes,
)
from tokenyield_agent.tokens.event import KINDS

SHARED = {"base", "json_lines", "pattern", "registry"}
"""Files of the package that are no server or gateway: what these share."""


def server(name: str, *before: str, last: bool = False) -> Server:
    return Server(name=name, title=name, before=before, last=last)


def test_every_file_of_the_package_is_a_server_or_a_gateway() -> None:
    files = {module.name for module in pkgutil.iter_modules(dialects.__path__)}
    assert files == SHARED | {name.replace("-", "_") for name in (*SERVERS, *GATEWAYS)}


@given(st.permutations([server("a"), server("b", "a"), server("c", "b"), server("d", last=True), server("e")]))
def test_the_order_is_what_the_entries_demand_and_else_by_name(entries: list[Server]) -> None:
    assert list(in_order(entries)) == ["c", "b", "a", "e", "d"]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([server("a"), server("a")], "expected one 'a', found 2"),
        ([server("a", "x")], "a.before: expected known names, found x"),
        ([server("a", "b"), server("b", "a")], "found a circle of a, b"),
    ],
)
def test_what_cannot_be_ordered_is_refused(entries: list[Server], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        in_order(entries)


def test_two_servers_are_not_recognized_by_the_same_program() -> None:
    one = Server(name="a", title="a", process=ProcessNames(programs=("serve",), modules=("serve",)))
    other = Server(name="b", title="b", process=ProcessNames(titles=("serve",)))
    assert with_own_processes({"a": one}) == {"a": one}
    with pytest.raises(ValueError, match=r"b.process: expected names of its own, found 'serve' of a too; remove one"):
        with_own_processes({"a": one, "b": other})


def test_what_stands_in_others_is_preferred() -> None:
    order = list(SERVERS)
    assert order.index("ollama") < order.index("llamacpp"), "whose lines stand in Ollama's log"
    assert order[-1] == "nim", "whose names have no prefix"
    assert list(GATEWAYS).index("litellm") < list(GATEWAYS).index("openai-usage")


@pytest.mark.parametrize("one", SERVERS.values(), ids=lambda one: one.name)
def test_a_server_agrees_with_its_parts(one: Server) -> None:
    assert one.log is None or one.log().name == one.name
    assert one.counters is None or one.counters.server == one.name
    assert (one.log is None) <= (one.log_report is None or bool(one.engines))
    assert (one.counters is None) or one.counters_report is not None
    assert set(one.engines) <= SERVERS.keys()
    for report in (one.log_report, one.counters_report):
        assert report is None or {*report.kinds, *report.since} <= set(KINDS)
    assert one.reports_tokens or one.advice, "where its tokens can come from instead"
    assert reports_tokens(one.name) == one.reports_tokens
    assert one.log_advice in log_advice()


@pytest.mark.parametrize("one", SERVERS.values(), ids=lambda one: one.name)
def test_a_server_has_its_recordings(one: Server) -> None:
    assert one.process is None or one.name in {name for _, name, _ in COMMANDS}
    assert one.log is None or one.name in {*RUNS, *(log.dialect for log in LOGS)}
    assert one.counters is None or one.name in {page.dialect for page in PAGES}


@pytest.mark.parametrize("one", GATEWAYS.values(), ids=lambda one: one.name)
def test_a_gateway_has_its_recordings(one: Gateway) -> None:
    assert one.log().name == one.name
    assert one.name in {log.dialect for log in LOGS}


def test_no_recording_is_of_a_server_that_is_gone() -> None:
    assert EXPECTED.keys() == SERVERS.keys() | GATEWAYS.keys()


def test_the_operators_own_dialects_can_report_tokens() -> None:
    assert reports_tokens("my-server")
