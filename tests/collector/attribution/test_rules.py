"""Rules: the first that matches holds, what none matches is shown, and every fault is reported at once."""

from pathlib import Path

import pytest
import yaml

from collector.fleet import rules
from tokenyield_collector.attribution.rules import AttributionRule, AttributionRules, load_rules, names_for_rules
from tokenyield_collector.statements.names import UNATTRIBUTED
from tokenyield_settings.loader import SettingsError

ROOT = Path(__file__).parents[3]


def attribute(
    rules_: AttributionRules,
    *,
    labels: dict[str, str] | None = None,
    caller: dict[str, str] | None = None,
    model: str = "llama",
    cluster: str = "eu",
) -> dict[str, str]:
    names = names_for_rules(cluster=cluster, workload="w", model=model, labels=labels or {}, caller=caller or {})
    values = (UNATTRIBUTED if value is None else value for value in rules_.attribute(names))
    return dict(zip(rules_.dimensions, values, strict=True))


def test_the_annotated_example_is_the_default() -> None:
    assert load_rules(ROOT / "collector" / "attribution.yaml") == AttributionRules()


def test_built_in_rules_take_the_gateways_team_before_labels() -> None:
    own = AttributionRules()
    labels = {"team": "platform", "product": "serving"}
    assert attribute(own, labels=labels) == {"team": "platform", "product": "serving"}
    assert attribute(own, labels=labels, caller={"team": "search"}) == {"team": "search", "product": "serving"}
    assert attribute(own) == {"team": "unattributed", "product": "unattributed"}


def test_the_first_rule_that_matches_holds(tmp_path: Path) -> None:
    document = {
        "dimensions": ["team", "environment", "agent_task"],
        "rules": [
            {"match": {"namespace": "search-*", "model": "llama*"}, "set": {"team": "search", "environment": "{namespace}"}},
            {"match": {"gateway": {"tags": "*batch*"}}, "set": {"team": "batch", "agent_task": "{gateway.user}/{model}"}},
            {"match": {"unit": "vllm.service", "cluster": "eu"}, "set": {"team": "lab"}},
            {"match": {"labels": {"app": "*"}}, "set": {"team": "any label"}},
        ],
    }  # fmt: skip
    own = rules(tmp_path, document)
    assert attribute(own, labels={"namespace": "search-prod"}) == {
        "team": "search", "environment": "search-prod", "agent_task": "unattributed",
    }  # fmt: skip
    assert attribute(own, labels={"namespace": "search-prod"}, model="qwen")["team"] == "unattributed"
    assert attribute(own, caller={"tags": "night,batch", "user": "u1"})["agent_task"] == "u1/llama"
    assert attribute(own, labels={"unit": "vllm.service"})["team"] == "lab"
    assert attribute(own, labels={"unit": "vllm.service"}, cluster="us")["team"] == "unattributed"
    assert attribute(own, labels={"app": "x"})["team"] == "any label"


def test_a_pattern_fits_a_workload_of_another_scope_of_that_name_too(tmp_path: Path) -> None:
    own = rules(
        tmp_path, {"dimensions": ["team"], "rules": [{"match": {"workload": "chat*"}, "set": {"team": "search"}}]}
    )
    for workload, team in (("chat", "search"), ("chat (node gpu-7)", "search"), ("rag", None)):
        names = names_for_rules(cluster="c", workload=workload, model="llama", labels={}, caller={})
        assert list(own.attribute(names)) == [team]


def test_a_pattern_does_not_fit_what_is_unknown(tmp_path: Path) -> None:
    own = rules(tmp_path, {"rules": [{"match": {"labels": {"team": "?*"}}, "set": {"team": "x"}}]})
    assert attribute(own, labels={"team": ""})["team"] == "unattributed"
    assert attribute(own)["team"] == "unattributed"


def test_all_faults_at_once(tmp_path: Path) -> None:
    document = """
    rule: []
    dimensions: [team, model, Team Name]
    rules:
    - {match: {namespce: x}, set: {team: a}}
    - {match: {}, set: {tem: a, team: "{label.team}"}}
    - {match: {}, set: {team: "{unclosed"}}
    sharing: {idle: fair}
    budgets: [{name: b, monthly: 5, match: {tea: x}}]
    """
    with pytest.raises(SettingsError) as error:
        rules(tmp_path, document)
    message = str(error.value)
    for expected in ("rule: unknown entry, did you mean 'rules'?", "rules[0]: ", "sharing.idle"):
        assert expected in message, expected
    sound = yaml.safe_load(document)
    sound["rules"][0]["match"] = {}
    del sound["rule"], sound["sharing"]
    with pytest.raises(SettingsError) as error:
        rules(tmp_path, sound)
    message = str(error.value)
    for expected in (
        "found 'model'; rename it",
        "found 'Team Name'; rename it",
        "rules[1].set.tem: expected one of the dimensions, found 'tem', did you mean 'team'?",
        "labels.NAME, gateway.NAME, found {label.team}",
        "rules[2].set.team: expected a template, found '{unclosed'",
        "budgets[0] (b).match.tea: expected a dimension, model or cluster, found 'tea', did you mean 'team'?",
    ):
        assert expected in message, expected


@pytest.mark.parametrize(
    ("template", "known", "value"),
    [
        ("{labels.a} {labels.b}", {"a": "x"}, "x"),
        ("{labels.a} {labels.b}", {"b": "y"}, "y"),
        ("{labels.a} - {labels.b}", {"a": "x"}, "x -"),
        ("{labels.a} - {labels.b}", {"a": "x", "b": "y"}, "x - y"),
        ("{labels.a} {labels.b} {labels.c}", {"a": "x"}, "x"),
        ("  fixed  ", {}, "fixed"),
        (" {labels.a} ", {}, None),
        ("{labels.a}", {"a": "x "}, "x "),
        ("{labels.a}", {"a": "\n"}, "\n"),
        ("{labels.a} {labels.b}", {"a": " {labels.b}\u202e"}, " {labels.b}\u202e"),
        ("{labels.a}", {"a": "n" * 200}, "n" * 200),
    ],
)
def test_a_value_of_a_template_is_kept_as_it_is_and_only_the_template_is_trimmed(
    template: str, known: dict[str, str], value: str | None
) -> None:
    found = AttributionRules(rules=(AttributionRule(set={"team": template}),)).attribute(
        {f"labels.{name}": text for name, text in known.items()}
    )
    assert found[0] == value
