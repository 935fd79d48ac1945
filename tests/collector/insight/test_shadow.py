"""Shadow use of a real ledger: each level alone, what is sanctioned, the sums, the program and the API's document."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.fleet import Fleet, Gpu, Held, Server, ms, prices, rules
from collector.spend.test_egress import DAY_MS
from collector.spend.test_samples import SAMPLES
from tokenyield_collector.cli import main
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.insight import shadow as shadow_module
from tokenyield_collector.insight.shadow import LIMITS, ShadowFindings, shadow
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.egress.rules import EgressRules, egress_rules
from tokenyield_collector.spend.layers import spend_of_day
from tokenyield_collector.spend.list_prices import bundled_list
from tokenyield_collector.spend.people import People
from tokenyield_collector.spend.slices import Layer, SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice
from tokenyield_collector.spend.sources import grain_of_slice
from tokenyield_collector.spend.token_costs import PublicList
from tokenyield_collector.statements.bought import BoughtCosts

DAY = "2026-11-28"
BOOK = 'pools: [{name: h100, match: {gpu: "*H100*"}, rented: {per_gpu_hour: 4}}]'


def slice_of(source: str, grain: str, layer: Layer, *lines: tuple[SpendFields, SpendAmounts], account: str = "a") -> SpendSlice:  # fmt: skip
    return SpendSlice(
        SpendKey(source, account, DAY_MS, grain), layer, tuple(SpendLine(*line) for line in sorted(lines))
    )


def evidence(service: str, count: int, **fields: str) -> tuple[SpendFields, SpendAmounts]:
    return SpendFields(**{"vendor": "openai", "service": service, "product": "api.openai.com"} | fields), SpendAmounts(requests=count)  # fmt: skip


def bill(vendor: str, micro: int, **fields: Any) -> tuple[SpendFields, SpendAmounts]:
    return SpendFields(vendor, **fields), SpendAmounts(cost_micro=micro)


def tokens(vendor: str, output: int) -> tuple[SpendFields, SpendAmounts]:
    return SpendFields(vendor, model="m"), SpendAmounts(fresh=0, output=output, requests=1)


def maker_of(tmp_path: Path, fleet: Fleet) -> ReportMaker:
    of_team = rules(tmp_path, {"dimensions": ["team"]})
    return fleet.maker(prices(tmp_path, BOOK), of_team, others=(BoughtCosts(fleet.ledger),))


def findings(
    tmp_path: Path, fleet: Fleet, rules: EgressRules | None = None, people: People = "team", top: int = 100
) -> Any:
    return shadow(maker_of(tmp_path, fleet), fleet.ledger, DAY, rules or egress_rules(None), people, top)


def test_lookups_and_connections_are_two_levels_of_one_subject(tmp_path: Path) -> None:
    fleet = Fleet()
    own = {"team": "search", "workload": "search/app", "person": "ada"}
    fleet.ledger.replace_spend([slice_of("egress", "squid:1", "observed", evidence("connections", 2, **own),
                                         evidence("bytes received", 5000, **own), evidence("lookups", 7, **own),
                                         evidence("key names", 1, **own, api_key="OPENAI_API_KEY"))], 1)  # fmt: skip
    document = findings(tmp_path, fleet)
    shown = [(row["level"], row["evidence"], row["count"], row["bytes_received"], row["bytes_sent"], row["cost"])
             for row in document["findings"]]  # fmt: skip
    assert shown == [("connected", "connections", 2, 5000, None, None), ("seen", "lookups", 7, None, None, None),
                     ("seen", "key names", 1, None, None, None)]  # fmt: skip
    assert {(row["team"], row["workload"], row["person"], row["first_day"]) for row in document["findings"]} == {
        ("search", "search/app", "", DAY)
    }
    assert document["limits"] == list(LIMITS)
    assert "2026" in document["hosts"]
    assert document["more"] == 0
    assert {row["person"] for row in findings(tmp_path, fleet, people="name")["findings"]} == {"ada"}


def test_what_is_sanctioned_is_counted_and_no_finding(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.ledger.replace_spend([
        slice_of("egress", "squid:1", "observed", evidence("connections", 2), evidence("bytes received", 9),
                 evidence("lookups", 3, vendor="cursor", product="*.cursor.sh")),
        slice_of("csv", "row", "billed", bill("cursor", 40_000_000, service="card"), account="card"),
    ], 1)  # fmt: skip
    assert len(findings(tmp_path, fleet)["findings"]) == 3
    document = findings(tmp_path, fleet, egress_rules({
        "sanctioned": ["Cursor"], "hosts": [{"host": "API.openai.com", "vendor": "openai", "sanctioned": True}]}))  # fmt: skip
    assert (document["findings"], document["sanctioned"]) == ([], 2 + 3 + 1)


def test_money_stands_once_card_or_bill_and_what_is_beyond_a_bill_is_used(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.ledger.replace_spend([
        slice_of("csv", "row", "billed", bill("cursor", 40_000_000, service="card", person="B ROE"), account="card"),
        slice_of("openai", "costs", "billed", bill("openai", 10_000_000)),
        slice_of("openai", "completions", "reported", (SpendFields("openai", model="m"),
                 SpendAmounts(fresh=0, output=100, requests=4))),
        slice_of("litellm", "spend_log", "observed", (SpendFields("openai", model="m"),
                 SpendAmounts(fresh=0, output=25, requests=1))),
        slice_of("aws", "cur2", "billed", (SpendFields("aws", model="m"),
                 SpendAmounts(fresh=0, output=10, cost_micro=1_000_000))),
        slice_of("litellm", "spend_log", "observed", tokens("aws", 30), account="a2"),
        slice_of("claude-code", "session", "observed", tokens("aws", 30)),
    ], 1)  # fmt: skip
    rows = findings(tmp_path, fleet)["findings"]
    shown = {(row["level"], row["evidence"], row["vendor"], row["account"]): (str(row["cost"]), row["tokens"]) for row in rows}  # fmt: skip
    assert shown == {
        ("paid", "invoice or card", "cursor", "card"): ("40.000000", None),
        ("paid", "billed, not observed", "openai", "a"): ("7.500000", 75),
        ("used", "observed, not billed", "aws", "a"): ("None", 20),
    }
    assert [row["level"] for row in rows] == ["paid", "paid", "used"]
    assert not any(row["person"] for row in rows)


def test_own_gpus_that_no_server_or_rule_explains_have_their_cost(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.hour(
        f"{DAY}T10:00",
        [
            Gpu(held=[Held(workload="chat", active_min=60)]),
            Gpu(uuid="GPU-1", held=[Held(workload="python3 serve.py", active_min=30, idle_min=30)]),
            Gpu(uuid="GPU-2", held=[Held(workload="train", active_min=60)]),
            Gpu(uuid="GPU-3", held=[Held(workload="unlabelled server", active_min=60)]),
            Gpu(uuid="GPU-4"),
        ],
        [
            Server(key="chat", labels={"team": "search"}, prompt_computed=1, prompt_cached=0, completion=1),
            Server(key="train", labels={"team": "ads"}),
            Server(key="unlabelled server", prompt_computed=1, prompt_cached=0, completion=1),
        ],
    )
    (row,) = findings(tmp_path, fleet)["findings"]
    assert (row["level"], row["evidence"], row["vendor"]) == ("used", "own GPUs", "own-fleet")
    assert (row["workload"], row["gpu_hours"], str(row["cost"]), row["currency"]) == ("python3 serve.py", 1.0, "4.000000", "USD")  # fmt: skip


def test_the_strongest_come_first_and_the_rest_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    lines = [evidence("lookups", count, team=f"team {count}") for count in range(1, 31)]
    fleet.ledger.replace_spend([slice_of("egress", "coredns:1", "observed", *lines)], 1)
    document = findings(tmp_path, fleet, top=3)
    assert [row["count"] for row in document["findings"]] == [30, 29, 28]
    assert document["more"] == 27
    monkeypatch.setattr(shadow_module, "SUBJECTS_MAX", 29)
    with pytest.raises(ParameterError, match="at most 29 findings"):
        findings(tmp_path, fleet)


MONEY = st.integers(0, 10**9)
VENDORS = st.sampled_from(["openai", "cursor", "aws"])


@given(
    st.dictionaries(st.tuples(VENDORS, st.sampled_from(["card", "a"])), MONEY, max_size=6),
    st.dictionaries(st.tuples(VENDORS, st.sampled_from(["x", "y"])), MONEY, max_size=6),
    st.lists(st.tuples(VENDORS, st.integers(0, 1000)), max_size=6),
)
def test_findings_sum_to_what_nothing_observed_and_to_all_evidence(
    cards: dict[tuple[str, str], int], bills: dict[tuple[str, str], int], seen: list[tuple[str, int]]
) -> None:
    slices = [slice_of("csv", "row", "billed", bill(vendor, micro, service="card"), account=account)
              for (vendor, account), micro in cards.items()]  # fmt: skip
    slices += [slice_of("focus", "cost", "billed", bill(vendor, micro), account=account)
               for (vendor, account), micro in bills.items()]  # fmt: skip
    evidences = [slice_of("egress", f"squid:{i}", "observed", evidence("connections", count, vendor=vendor))
                 for i, (vendor, count) in enumerate(seen)]  # fmt: skip
    found = ShadowFindings(egress_rules(None), "team")
    found.add_evidence(evidences)
    found.add_bought(DAY_MS, [*slices, *evidences], PublicList(bundled_list()))
    unseen = [line for line in spend_of_day(slices, grain_of_slice, PublicList(bundled_list())).lines if line.is_unseen]
    costs = sum((finding.cost or 0 for finding in found.findings.values()), Decimal())
    assert costs == Decimal(sum(line.amounts.cost_micro or 0 for line in unseen)).scaleb(-6)
    assert sum(finding.count or 0 for key, finding in found.findings.items() if key.level == "connected") == sum(count for _, count in seen)  # fmt: skip


def test_the_program_from_logs_to_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, rules_file = tmp_path / "ledger.duckdb", tmp_path / "egress.yaml"
    rules_file.write_text("gateways: [10.0.9.9]\nsubjects: {10.0.3.0/24: {team: build}}\n")
    flags = ["--ledger", str(ledger), "--set", f"egress_file={rules_file}", "--set", f"state_dir={tmp_path}"][:4]
    logs = [str(SAMPLES / name) for name in ("egress_pods.json", "egress_squid.log", "egress_envoy.log")]
    assert main(["import", "egress", *logs, "--day", DAY, *flags]) == 0
    said = "".join(capsys.readouterr())
    assert "lines of sanctioned gateways, not kept" in said
    assert f"evidence: openai, account default, {DAY}: 50,000 bytes received, 2 connections (egress squid)" in said
    assert "requests" not in said
    assert "no money" not in said
    assert main(["import", "egress", *logs, "--day", DAY, *flags]) == 0
    assert "0 new, 0 replaced, 3 unchanged" in capsys.readouterr().out
    assert main(["shadow", "--period", DAY, "--json", *flags]) == 0
    document = json.loads(capsys.readouterr().out)
    connected = {(row["vendor"], row["team"]): row["count"] for row in document["findings"] if row["level"] == "connected"}  # fmt: skip
    assert connected[("openai", "build")] == 3
    assert ms(f"{DAY}T00:00") == DAY_MS
    assert main(["shadow", "--period", DAY, *flags]) == 0
    text = capsys.readouterr().out
    assert "unpriced" in text
    assert "98.3 kB" in text
    assert all(limit.split(":")[0] in text for limit in LIMITS)
    assert main(["import", "egress", logs[1], "--day", "tomorrow", *flags]) == 2
    rules_file.write_text("gateway: [10.0.9.9]\n")
    assert main(["import", "egress", logs[1], *flags]) == 2
    assert main(["shadow", "--period", DAY, *flags]) == 2
    assert "egress.yaml" in capsys.readouterr().err
