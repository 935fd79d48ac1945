"""Logs of DNS and proxies, and saved pods, become evidence: who, which vendor, how often; and nothing else of a line."""

import gzip
import ipaddress
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.spend.test_import_files import written
from collector.spend.test_samples import SAMPLES
from tokenyield_collector.ingest.spend_files import LOG_LINE_BYTES_MAX
from tokenyield_collector.ingest.spend_import import SpendImport, read_spend_files
from tokenyield_collector.spend.egress.lines import OTHER, EgressEntry, entry_of
from tokenyield_collector.spend.egress.rules import egress_rules, shipped_list
from tokenyield_collector.spend.egress.subjects import Client, Subjects
from tokenyield_collector.spend.layers import spend_of_day
from tokenyield_collector.spend.list_prices import bundled_list
from tokenyield_collector.spend.people import People, people_filter
from tokenyield_collector.spend.sources import grain_of_slice
from tokenyield_collector.spend.sources.egress import ATTEMPTS, CONNECTIONS, KEYS, LOOKUPS, RECEIVED, SENT
from tokenyield_collector.spend.token_costs import PublicList
from tokenyield_collector.spend.values import UnusableSpend

DAY_MS = 1_795_824_000_000
"""2026-11-28."""
NOW_MS = DAY_MS + 43_200_000
RULES = {"gateways": ["gateway/litellm", "10.0.9.0/24"], "subjects": {"10.0.3.0/24": {"team": "build"}}}
QUERY = '10.0.0.1:41234 - 4711 "A IN api.openai.com. udp 48 false 512" NOERROR qr,rd,ra 96 0.0021s'


def read(*files: Path, people: People = "name", day_ms: int | None = DAY_MS, **rules: Any) -> SpendImport:
    kept = people_filter(people, {}, b"k" * 16)
    return read_spend_files("egress", files, mapping=rules or RULES, day_ms=day_ms, now_ms=NOW_MS, people=kept)


def counts(imported: SpendImport) -> dict[tuple[str, ...], int]:
    """(vendor, service, row of the host or variable, team, workload, person) -> count."""
    found: dict[tuple[str, ...], int] = {}
    for one in imported.slices:
        for fields, amounts in one.lines:
            assert amounts._replace(requests=None) == (None,) * len(amounts), "evidence has no amount"
            key = (fields.vendor, fields.service, fields.product or fields.api_key, fields.team, fields.workload, fields.person)  # fmt: skip
            found[key] = found.get(key, 0) + (amounts.requests or 0)
    return found


def test_lookups_of_coredns_are_of_the_pods_that_made_them() -> None:
    imported = read(SAMPLES / "egress_pods.json", SAMPLES / "egress_coredns.log")
    own = ("search", "search/search", "")
    assert counts(imported) == {
        ("anthropic", LOOKUPS, "api.anthropic.com", *own): 2,
        ("openai", LOOKUPS, "api.openai.com", *own): 1,  # IPv6, and in capital letters
        ("openrouter", LOOKUPS, "openrouter.ai", "", "", "10.244.7.9"): 1,
        ("anthropic", KEYS, "ANTHROPIC_API_KEY", *own): 1,
        ("openai", KEYS, "OPENAI_API_KEY", *own): 1,  # the name of a secret's key; not that of a pod which ended
    }
    assert not imported.refused
    assert {one.key.day_ms for one in imported.slices if one.key.grain != "pods"} == {DAY_MS - 86_400_000, DAY_MS}
    assert "1 lines of sanctioned gateways, not kept" in [text for _, text in imported.notices]
    assert "SECRET" not in repr(imported)


def test_connections_of_squid_have_bytes_and_what_was_denied_is_an_attempt() -> None:
    imported = read(SAMPLES / "egress_squid.log")
    assert counts(imported) == {
        ("openai", CONNECTIONS, "api.openai.com", "build", "", "ada"): 2,
        ("openai", RECEIVED, "api.openai.com", "build", "", "ada"): 48_211 + 1_789,
        ("aws", CONNECTIONS, "bedrock-runtime.*.amazonaws.com", "build", "", ""): 1,
        ("aws", RECEIVED, "bedrock-runtime.*.amazonaws.com", "build", "", ""): 99_312,
        ("anthropic", ATTEMPTS, "claude.ai", "build", "", ""): 1,
    }
    assert not imported.refused


def test_envoy_in_its_default_format_that_of_istio_and_json() -> None:
    found = counts(read(SAMPLES / "egress_envoy.log"))
    assert found == {
        ("openai", CONNECTIONS, "api.openai.com", "build", "", ""): 1,
        ("openai", RECEIVED, "api.openai.com", "build", "", ""): 48_300,
        ("openai", SENT, "api.openai.com", "build", "", ""): 517,
        # The last address of X-Forwarded-For: those before it are what a client says.
        ("anthropic", CONNECTIONS, "api.anthropic.com", "build", "", ""): 1,
        ("anthropic", RECEIVED, "api.anthropic.com", "build", "", ""): 9_000,
        ("anthropic", SENT, "api.anthropic.com", "build", "", ""): 2_048,
        ("anthropic", CONNECTIONS, "api.anthropic.com", "", "", "10.244.1.23"): 1,  # TCP: the name in TLS
        ("anthropic", RECEIVED, "api.anthropic.com", "", "", "10.244.1.23"): 5_140,
        ("anthropic", SENT, "api.anthropic.com", "", "", "10.244.1.23"): 612,
        ("mistral", ATTEMPTS, "api.mistral.ai", "build", "", ""): 1,
    }
    found = counts(read(SAMPLES / "egress_pods.json", SAMPLES / "egress_envoy.jsonl"))
    own = ("search", "search/search", "")
    assert found[("openai", RECEIVED, "api.openai.com", *own)] == 48_300
    assert found[("anthropic", SENT, "api.anthropic.com", *own)] == 612


def test_queries_of_dnsmasq_are_of_the_year_before_now() -> None:
    imported = read(SAMPLES / "egress_dnsmasq.log")
    assert counts(imported) == {
        ("openai", LOOKUPS, "api.openai.com", "build", "", ""): 1,
        ("anthropic", LOOKUPS, "claude.ai", "build", "", ""): 1,
        ("openai", LOOKUPS, "chatgpt.com", "", "", "fd00::7"): 1,
    }
    assert {one.key.day_ms for one in imported.slices} == {DAY_MS}
    entry = entry_of("Dec 31 23:00:00 dnsmasq[1]: query[A] claude.ai from 10.0.0.1", NOW_MS)
    assert entry is not None
    assert entry.day_ms == 1_798_675_200_000 - 365 * 86_400_000, "of last year"
    leap = entry_of("Feb 29 23:00:00 dnsmasq[1]: query[A] claude.ai from 10.0.0.1", NOW_MS)
    assert leap is not None
    assert leap.day_ms == 1_709_164_800_000, "2024-02-29"


@pytest.mark.parametrize(("people", "person"), [("off", ""), ("team", ""), ("pseudonym", "person-"), ("name", "ada")])
def test_a_person_is_kept_as_far_as_people_allows(people: People, person: str) -> None:
    persons = {key[-1] for key in counts(read(SAMPLES / "egress_squid.log", people=people)) if key[1] == CONNECTIONS}
    named = [one for one in persons if one]
    assert all(one.startswith(person) for one in named)
    assert bool(named) == bool(person)
    assert not any("10.0.3" in one for one in persons), "an address of a known subject is not kept"


def test_the_same_log_twice_is_one_report_and_one_that_grew_replaces_it(tmp_path: Path) -> None:
    text = (SAMPLES / "egress_squid.log").read_text()
    half = written(tmp_path, "".join(text.splitlines(keepends=True)[:2]), "half")
    packed = written(tmp_path, gzip.compress(text.encode()), "whole.gz")
    rotated = written(tmp_path, "".join(text.splitlines(keepends=True)[2:]), "rotated")
    keys = [{one.key for one in read(file).slices} for file in (half, packed, SAMPLES / "egress_squid.log", rotated)]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    both = counts(read(half, rotated))
    assert both == counts(read(packed)), "two parts of a day add up"
    again = read(packed, written(tmp_path, gzip.compress(text.encode()), "again.gz"))
    assert counts(again) == both, "in one command it is read once"


def test_lines_that_are_none_are_named_by_line_and_never_kept(tmp_path: Path) -> None:
    secret = "sk-VERY-SECRET"
    lines = [
        f"[INFO] {QUERY}",
        f"hello {secret} \x1b[31m",
        f'{{"authority": "{secret}"}}',
        f'[2026-99-99T06:00:01Z] "GET /{secret} HTTP/1.1" 200 - 1 1 1 - "-" "-" "-" "api.openai.com" "-"',
        "x" * (LOG_LINE_BYTES_MAX + 10),
        "\x00\xff\xfe",
        f"99999999999.000 1 {secret} TCP_MISS/200 1 GET http://api.openai.com/ - HIER_DIRECT/- -",
        f"[INFO] {QUERY}",
    ]
    imported = read(written(tmp_path, "\n".join(lines)))
    assert sum(counts(imported).values()) == 2
    assert [why.partition(":")[0] for _, why in imported.refusals] == [f"line {i}" for i in range(2, 8)]
    assert secret not in repr(imported.refusals)
    assert secret not in repr(imported.slices)


def test_lines_without_a_time_need_a_day(tmp_path: Path) -> None:
    log = written(tmp_path, f"[INFO] {QUERY}\n")
    imported = read(log, SAMPLES / "egress_pods.json", day_ms=None)
    assert imported.refused == 2
    assert not imported.slices
    assert imported.refusals[0][1].startswith("line 1: time: expected a time in the line, or --day, found none; give")
    (one,) = read(log).slices
    assert one.key.day_ms == DAY_MS


def test_names_that_others_chose_have_no_control_characters(tmp_path: Path) -> None:
    line = (
        "1795824000.123 812 10.1.1.1 TCP_TUNNEL/200 48211 CONNECT api.openai.com:443 ada\x1b[31m\u202e HIER_DIRECT/- -"
    )
    ((*_, person),) = {key for key in counts(read(written(tmp_path, line))) if key[1] == CONNECTIONS}
    assert person.isprintable()
    assert person.startswith("ada[31m~")


@pytest.mark.parametrize(
    ("host", "row"),
    [
        ("api.openai.com", "api.openai.com"),
        ("API.OpenAI.com.", "api.openai.com"),
        ("status.openai.com", None),
        ("docs.anthropic.com", None),
        ("evil-api.openai.com.example.net", None),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock-runtime.*.amazonaws.com"),
        ("europe-west4-aiplatform.googleapis.com", "*-aiplatform.googleapis.com"),
        ("storage.googleapis.com", None),
        ("acme.openai.azure.com", "*.openai.azure.com"),
        ("*.cursor.sh", "*.cursor.sh"),
        ("a" * 4000, None),
        ("", None),
    ],
)
def test_only_hosts_of_the_list_are_vendors(host: str, row: str | None) -> None:
    found = egress_rules(None).host_of(host)
    assert (found.host if found else None) == row


def test_the_shipped_list_says_where_it_is_from_and_own_rows_replace_its() -> None:
    assert len(shipped_list().hosts) > 40
    assert "2026" in shipped_list().text
    rules = egress_rules({"hosts": [{"host": "API.openai.com", "vendor": "acme", "sanctioned": True}]})
    row = rules.host_of("api.openai.com")
    assert row is not None
    assert row.vendor == "acme"
    wrong: list[Any] = [
        {"hosts": [{"host": "x"}]},
        {"host": []},
        {"subjects": {"10.0.0.0/8": "search"}},
        [1],
        {"keys": {"A": 1}},
    ]
    for raw in wrong:
        with pytest.raises(UnusableSpend, match="egress_file: expected hosts"):
            egress_rules(raw)


def test_the_smallest_network_says_who_a_client_is_and_a_gateway_stays_one() -> None:
    subjects = Subjects(egress_rules({
        "gateways": ["10.1.2.3", "gw-*.example.com"],
        "subjects": {
            "10.0.0.0/8": {"team": "all"}, "10.1.0.0/16": {"team": "one"}, "10.1.2.3": {"team": "two"},
            "fd00::/8": {"team": "six"}, "build-*": {"team": "ci", "workload": "runner"},
        },
    }))  # fmt: skip
    assert subjects.client("10.9.9.9") == Client("all")
    assert subjects.client("::ffff:10.1.9.9") == Client("one")
    assert subjects.client("fd00::1") == Client("six")
    assert subjects.client("build-7") == Client("ci", "runner")
    assert subjects.client("10.1.2.3").is_gateway
    assert subjects.client("gw-2.example.com").is_gateway
    assert subjects.client("192.0.2.1") == subjects.client("not an address") == Client()


@given(st.lists(st.tuples(st.ip_addresses(v=4), st.integers(8, 32)), max_size=8), st.ip_addresses(v=4))
def test_a_client_is_of_the_smallest_network_that_has_it(
    networks: list[tuple[ipaddress.IPv4Address, int]], client: ipaddress.IPv4Address
) -> None:
    known = [ipaddress.ip_network((address, length), strict=False) for address, length in [*networks, (client, 8)]]
    subjects = Subjects(egress_rules({"subjects": {str(one): {"team": str(one)} for one in known}}))
    smallest = max((one for one in known if client in one), key=lambda one: one.prefixlen)
    assert subjects.client(str(client)).team == str(smallest)


@given(st.text(max_size=200) | st.text(st.sampled_from('[]" :-./0123456789AINqueryTCP_MISS\x00'), max_size=120))
def test_no_line_does_more_than_be_refused(line: str) -> None:
    for text in (line, f"[INFO] {line}", f"dnsmasq[1]: {line}", f'[2026-11-28T06:00:01Z] "{line}'):
        try:
            entry = entry_of(text, NOW_MS)
        except UnusableSpend:
            continue
        assert entry is None or entry is OTHER or isinstance(entry, EgressEntry)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**9)), min_size=1, max_size=30))
def test_bytes_and_connections_sum_to_those_of_the_lines(lines: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [f"1795824{i:03}.123 1 10.0.{who}.7 TCP_TUNNEL/200 {count} CONNECT api.openai.com:443 - HIER_DIRECT/- -\n"
                for i, (who, count) in enumerate(lines)]  # fmt: skip
        imported = read(written(Path(folder), "".join(rows)), subjects={"10.0.3.0/24": {"team": "build"}})
    found = counts(imported)
    assert sum(count for key, count in found.items() if key[1] == CONNECTIONS) == len(lines)
    assert sum(count for key, count in found.items() if key[1] == RECEIVED) == sum(count for _, count in lines)


def test_evidence_is_in_no_sum_of_spend() -> None:
    slices = read(SAMPLES / "egress_squid.log").slices
    day = spend_of_day(slices, grain_of_slice, PublicList(bundled_list()))
    assert slices
    assert not day.lines
    assert not day.beyond
