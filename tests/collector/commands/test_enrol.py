"""`tokenyield-collector enrol`: what it makes, shows and refuses; and what `check` says of enrolment."""

import json
from pathlib import Path

import pytest

from tokenyield_collector.access.enrolment_journal import EnrolmentJournal
from tokenyield_collector.access.enrolments import NodeEnrolled
from tokenyield_collector.access.token_file import token_line
from tokenyield_collector.cli import main


def enrol(folder: Path, action: str, *words: str) -> int:
    return main(["enrol", action, "--set", f"enrol_dir={folder}", *words])


def test_a_secret_is_shown_once_and_listed_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "cluster=dc1",
        "nodes=gpu-*,gw-1",
        "uses=3",
        "days=7",
        "name=rack a".replace(" ", "-"),
        "replace_after=24h",
    )
    assert enrol(tmp_path, "secret", *words) == 0
    made = capsys.readouterr()
    assert made.out.startswith("tyb_")
    assert made.err == "rack-a: 3 x cluster=dc1 nodes=gpu-*,gw-1, for 7 days\n"
    EnrolmentJournal(tmp_path).decide(lambda _: (NodeEnrolled(0, "dc1", "gpu-7", "c", "rack-a"), None))
    assert enrol(tmp_path, "revoke", "cluster=dc1", "node=gpu-8") == 0
    assert enrol(tmp_path, "list", "--format", "json") == 0
    listed = capsys.readouterr().out
    assert made.out.strip() not in listed
    document = json.loads(listed)
    (secret,) = document["secrets"]
    assert (secret["uses_left"], secret["replace_after_s"]) == (2, 86_400)
    assert [(one["node"], one["state"]) for one in document["nodes"]] == [("gpu-7", "enrolled"), ("gpu-8", "revoked")]
    assert enrol(tmp_path, "revoke", "name=rack-a") == 0
    assert enrol(tmp_path, "list") == 0
    assert "gpu-7" in capsys.readouterr().out
    assert enrol(tmp_path, "forget", "days=30") == 0
    assert capsys.readouterr().out == "1 nodes forgotten\n"


@pytest.mark.parametrize(
    ("action", "words", "code", "problem"),
    [
        ("secret", (), 2, "add cluster=…"),
        ("secret", ("cluster=dc1", "uses=0"), 2, "uses: expected a number from 1 to 100000, found '0'"),
        ("secret", ("cluster=dc1", "days=4000"), 2, "days: expected a number from 1 to 366"),
        ("secret", ("cluster=dc1", "may=read"), 2, "may: expected write or write,gateway"),
        ("secret", ("cluster=dc1", "replace_after=5"), 2, "as 90s, 30m, 24h"),
        ("secret", ("cluster=dc1", "use=5"), 2, "did you mean 'uses'"),
        ("secret", ("cluster=dc1", "uses=5", "uses=6"), 2, "found it twice"),
        ("secret", ("cluster=a b",), 2, "without spaces"),
        ("revoke", ("name=none",), 1, "expected a secret of `enrol list`"),
        ("revoke", ("node=gpu-1",), 2, "cluster: expected the name"),
        ("revoke", ("name=x", "node=gpu-1"), 2, "found both"),
        ("forget", ("days=29",), 2, "days: expected at least enrol_token_days (30), found 29"),
        ("forget", (), 2, "days: expected a number"),
        ("allow", ("cluster=dc1", "node=gpu-*"), 2, "node: expected the name"),
    ],
)
def test_what_cannot_be_used_is_named(
    action: str, words: tuple[str, ...], code: int, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(tmp_path, action, *words) == code
    captured = capsys.readouterr()
    assert problem in captured.err
    assert captured.out == ""


def test_two_secrets_do_not_share_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enrol(tmp_path, "secret", "cluster=dc1", "name=x") == 0
    assert enrol(tmp_path, "secret", "cluster=dc1", "name=x") == 1
    assert "choose another" in capsys.readouterr().err


def test_without_a_folder_nothing_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enrol", "list"]) == 2
    assert "enrol_dir: expected a folder" in capsys.readouterr().err


def own_ledger(folder: Path) -> tuple[str, str]:
    """`check` looks whether there is one, which must not be this machine's."""
    return "--set", f"ledger_path={folder / 'none.duckdb'}"


def test_check_names_shared_tokens_and_what_is_not_encrypted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, shared = (
        token_line("t" * 20, ["name=one", "may=write", "cluster=dc1", "nodes=gpu-1"]),
        token_line("s" * 20, ["name=all"]),
    )
    reader = token_line("r" * 20, ["name=reader", "may=read"])
    (tmp_path / "tokens").write_text(f"{one}\n{reader}\n")
    assert main(["check", *own_ledger(tmp_path), "--set", f"token_file={tmp_path / 'tokens'}"]) == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "tokens").write_text(f"{one}\n{shared}\n{reader}\n")
    assert (
        main(
            [
                "check",
                *own_ledger(tmp_path),
                "--set",
                f"token_file={tmp_path / 'tokens'}",
                "--set",
                "listen=0.0.0.0:9464",
            ]
        )
        == 0
    )
    warned = capsys.readouterr().err
    assert "found tokens for several (all); set enrol_dir" in warned
    assert "listen: expected https" in warned


def test_check_changes_nothing_and_names_a_journal_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run by root it would make files that the collector cannot read."""
    folder = tmp_path / "enrol"
    assert main(["check", *own_ledger(tmp_path), "--set", f"enrol_dir={folder}"]) == 0
    assert not folder.exists()
    folder.mkdir()
    (folder / "enrolments").write_text("what\n")
    assert main(["check", *own_ledger(tmp_path), "--set", f"enrol_dir={folder}"]) == 2
    assert f"{folder}/enrolments:1: expected an event" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("enrol_kubernetes=[{cluster: a, service_account: n/a}]", "enrol_kubernetes: expected enrol_dir with it"),
        ("enrol_key_file=/k", "enrol_key_file: expected enrol_dir with it"),
    ],
)
def test_settings_that_need_the_folder(setting: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", setting]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{cluster: a, service_account: agent}", "expected namespace/name, found 'agent'"),
        ("{cluster: a, service_account: n/a, audience: ''}", "every ServiceAccount token would do"),
        ("{cluster: a, service_account: n/a, api_server: 'http://x'}", "expected https://host:port"),
        ("{cluster: a, service_account: n/a}, {cluster: a, service_account: n/a}", "cluster 'a', n/a again"),
        ("{cluster: a, service_account: n/a}, {cluster: a, service_account: n/a, nodes: [b]}", "narrower nodes first"),
        ("{cluster: a, service_account: n/a, nodes: []}", "expected patterns of nodes"),
    ],
)
def test_a_cluster_that_cannot_be_used(
    entry: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--set", f"enrol_dir={tmp_path}", "--set", f"enrol_kubernetes=[{entry}]"]) == 2
    assert problem in capsys.readouterr().err
