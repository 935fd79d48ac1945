import dataclasses
from pathlib import Path

import pytest

from tokenyield_agent.config import Settings, load_settings
from tokenyield_agent.tokens.dialects.registry import SERVER_DIALECTS
from tokenyield_agent.version import VERSION
from tokenyield_collector.config import CollectorSettings
from tokenyield_settings.loader import SettingsError, describe

ROOT = Path(__file__).parents[2]


def faults(tmp_path: Path, text: str, *flags: str, environ: dict[str, str] | None = None) -> str:
    file = tmp_path / "agent.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_settings(file, environ or {}, list(flags))
    return str(error.value)


def test_all_faults_are_reported_together_with_file_field_and_fix(tmp_path: Path) -> None:
    said = faults(tmp_path, "colector_url: x\npoll_interval_ms: fast\nworkloads: [{log: /x}]\n")
    assert f"{tmp_path}/agent.yaml: unknown setting 'colector_url', did you mean 'collector_url'?" in said
    assert "poll_interval_ms: Expected `int`, got `str`" in said
    assert "workloads: Object missing required field `name` - at `$[0]`" in said


@pytest.mark.parametrize("kind", [Settings, CollectorSettings])
def test_every_number_has_bounds(kind: type[Settings | CollectorSettings]) -> None:
    for field in dataclasses.fields(kind):
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            least, most = field.metadata["within"]
            assert least <= field.default <= most


@pytest.mark.parametrize("value", ["-1", "0", ".nan", ".inf", "1.0e+300"])
def test_numbers_beyond_their_bounds(tmp_path: Path, value: str) -> None:
    said = faults(tmp_path, f"collector_timeout_s: {value}\nwindow_length_s: 0\ncollector_url: x\n")
    assert f"agent.yaml: collector_timeout_s: expected 0.1 to 600, found {float(value.strip('.'))}" in said
    assert "window_length_s: expected 1 to 3600, found 0" in said
    assert "collector_url: expected http://host:port or https://host:port, found 'x'" in said


def test_faults_across_fields(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        """
        collector_url: collector:9464
        window_length_s: 7
        gpu_reader: trace
        collector_client_cert_file: /c
        workloads:
        - {name: a, log: relative.log}
        - {name: a, log: /x, dialect: vlm, process: "("}
        """,
    )
    for fault in (
        "collector_url: expected http://host:port or https://host:port, found 'collector:9464'",
        "window_length_s: expected a divisor of an hour, found 7",
        "gpu_trace_file: expected a file, for gpu_reader is trace, found none",
        "collector_client_cert_file: expected it together with collector_client_key_file, found one of them; give both",
        "workloads[0].log: expected an absolute path, found 'relative.log'",
        "workloads[1].name: expected a name of its own, found 'a' twice",
        f"workloads[1].dialect: expected one of {', '.join(sorted(['auto', *SERVER_DIALECTS]))}, found 'vlm'",
        "workloads[1].process: expected a regular expression, found '('",
    ):
        assert fault in said


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("cluster: file\nnode: file\nwindow_settle_s: 1\n")
    environ = {"TOKENYIELD_AGENT_NODE": "environment", "TOKENYIELD_AGENT_CLUSTER": "environment"}
    found = load_settings(
        file, environ, ["cluster=flag", 'workloads=[{"name": "a", "log": "/x", "gpus": [0, "GPU-1"]}]']
    )
    assert (found.cluster, found.node, found.window_settle_s) == ("flag", "environment", 1)
    assert found.workloads[0].gpus == (0, "GPU-1")


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "a: 1\n a: 2"])
def test_a_file_that_is_not_a_mapping_is_reported(tmp_path: Path, text: str) -> None:
    assert "agent.yaml" in faults(tmp_path, text)


def test_a_file_that_is_not_there_is_reported() -> None:
    with pytest.raises(SettingsError, match=r"/nowhere\.yaml: cannot be read"):
        load_settings(Path("/nowhere.yaml"), {}, [])


def test_the_annotated_default_is_sound_and_complete() -> None:
    text = (ROOT / "agent" / "agent.yaml").read_text()
    load_settings(ROOT / "agent" / "agent.yaml", {}, [])
    assert not [name for name, _, _ in describe(Settings) if f"{name}:" not in text]


def test_the_version_is_the_distributions() -> None:
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("workload", "fault"),
    [
        ("metrics_token_file: /t", "metrics_token_file: expected metrics with it, found none"),
        ("metrics: 'http://h:1', metrics_token_file: t", "metrics_token_file: expected an absolute path, found 't'"),
        ("metrics: 'http://h:1', metrics_ca_file: /c", "metrics_ca_file: expected metrics with https"),
        (
            "metrics: 'http://h:1', metrics_when_idle: never",
            "metrics_when_idle: expected a log or journal beside never",
        ),
        ("metrics: 'http://u:p@h:1'", "metrics: expected no user or password"),
    ],
)
def test_an_endpoint_is_checked(workload: str, fault: str, tmp_path: Path) -> None:
    log = "" if "expected a log" in fault else "log: /x, "
    assert fault in faults(tmp_path, f"workloads: [{{name: a, {log}{workload}}}]\n")
