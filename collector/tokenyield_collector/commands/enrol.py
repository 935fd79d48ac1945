"""`tokenyield-collector enrol`: bootstrap secrets, with which nodes get tokens of their own; who enrolled; revocation.

Works on `enrol_dir` itself, whether a collector runs or not: one that runs takes it up within `refresh_interval_s`.
"""

import argparse
import re
from typing import TYPE_CHECKING, Any

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import print_table, show

if TYPE_CHECKING:
    from tokenyield_collector.access.enrolment_journal import EnrolmentJournal
    from tokenyield_collector.access.enrolments import Event

HELP = "give nodes tokens of their own: make a bootstrap secret, list who enrolled, revoke"
EXAMPLE = "enrol secret --config /etc/tokenyield/collector.yaml cluster=dc1 'nodes=gpu-*' uses=40 days=7"
ACTIONS = {
    "secret": (
        "make a bootstrap secret: for how many nodes (uses=, default 1), which (nodes=), how long (days=, default 1)",
        "KEY=VALUE",
        "cluster=, nodes=, uses=, days=, may=write|write,gateway, replace_after=90s|30m|24h, name=",
        EXAMPLE,
    ),
    "list": (
        "list bootstrap secrets and the nodes that enrolled",
        "",
        "",
        "enrol list --config collector.yaml --format json",
    ),
    "revoke": (
        "end a secret (name=), or a node's tokens (cluster= node=), which then gets none until it is allowed again",
        "KEY=VALUE",
        "name=, or cluster= and node=",
        "enrol revoke --config collector.yaml cluster=dc1 node=gpu-7",
    ),
    "allow": (
        "free the name of a node that was installed anew, or revoked: its tokens end, and the next to enrol gets it",
        "KEY=VALUE",
        "cluster= and node=",
        "enrol allow --config collector.yaml cluster=dc1 node=gpu-7",
    ),
    "forget": (
        "forget secrets that ended, and nodes that enrolled, longer than days= ago; a node that lives is not affected",
        "KEY=VALUE",
        "days=, at least enrol_token_days",
        "enrol forget --config collector.yaml days=90",
    ),
}
USES_MAX, DAYS_MAX, REPLACE_AFTER_S_MAX = 100_000, 366, 366 * 86_400
FORGET_DAYS_MAX = 36_600
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SECRET_KEYS = ("cluster", "nodes", "uses", "days", "may", "replace_after", "name")


class _Unusable(Exception):
    """A parameter that cannot be used; in words."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (help_text, metavar, pairs, example) in ACTIONS.items():
        action = actions.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"example:\n  tokenyield-collector {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_settings_flags(action, "collector/collector.yaml")
        if pairs:
            action.add_argument("pairs", nargs="*", metavar=metavar, help=pairs)
        else:
            action.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """1 where there is no such secret; 2 where a parameter cannot be used. Raises `SettingsError`, OSError."""
    import os
    from pathlib import Path

    from tokenyield_collector.access.enrolment_journal import EnrolmentJournal
    from tokenyield_collector.access.enrolments import EnrolRefused
    from tokenyield_collector.config import load_settings

    settings = load_settings(arguments.config, os.environ, arguments.set)
    if settings.enrol_dir is None:
        show(
            "enrol_dir: expected a folder, found none; set it in collector.yaml, and restart the collector",
            is_error=True,
        )
        return 2
    journal = EnrolmentJournal(Path(settings.enrol_dir))
    arguments.days_min = settings.enrol_token_days
    try:
        return _ACT[arguments.action](journal, arguments)
    except _Unusable as error:
        show(f"enrol {arguments.action}: {error}", is_error=True)
        return 2
    except EnrolRefused as error:
        show(f"enrol {arguments.action}: {error}", is_error=True)
        return 1


def _secret(journal: "EnrolmentJournal", arguments: argparse.Namespace) -> int:
    import hashlib
    import secrets

    from tokenyield_collector.access.enrolment import SECRET_PREFIX
    from tokenyield_collector.access.enrolments import SECRETS_MAX, Enrolments, EnrolRefused, SecretAdded

    pairs, now_ms = _pairs(arguments.pairs, _SECRET_KEYS), _now_ms()
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    may = pairs.get("may", "write")
    if may not in ("write", "write,gateway"):
        raise _Unusable(f"may: expected write or write,gateway, found '{may}'")
    if "cluster" not in pairs:
        raise _Unusable(
            "cluster: expected the cluster of the nodes, as their agent.yaml names it, found none; add cluster=…"
        )
    days = _whole("days", pairs.get("days", "1"), DAYS_MAX)
    added = SecretAdded(
        now_ms,
        pairs.get("name") or f"secret-{secrets.token_hex(4)}",
        hashlib.sha256(secret.encode()).hexdigest(),
        pairs["cluster"],
        tuple(pairs.get("nodes", "*").split(",")),
        may,
        _whole("uses", pairs.get("uses", "1"), USES_MAX),
        now_ms + days * 86_400_000,
        _seconds(pairs["replace_after"]) if "replace_after" in pairs else None,
    )

    def judge(state: Enrolments) -> tuple[SecretAdded, None]:
        if added.name in state.secrets:
            raise EnrolRefused(
                "name", 409, f"name: expected a name of its own, found '{added.name}' again; choose another"
            )
        if len(state.secrets) >= SECRETS_MAX:
            raise EnrolRefused("too_many", 409, f"{SECRETS_MAX} secrets were made, as many as may be")
        return added, None

    journal.decide(judge)
    print(secret)
    nodes = ",".join(added.nodes)
    show(f"{added.name}: {added.uses} x cluster={added.cluster} nodes={nodes}, for {days} days", is_error=True)
    return 0


def _list(journal: "EnrolmentJournal", arguments: argparse.Namespace) -> int:
    import json

    from tokenyield_collector.access.enrolments import secrets_left

    journal.reread()
    state, left = journal.state, secrets_left(journal.state, _now_ms())
    secrets = [
        {
            "name": one.name,
            "cluster": one.cluster,
            "nodes": ",".join(one.nodes),
            "may": one.may,
            "uses_left": left.get(one.name, 0),
            "until": _day(one.until_ms),
            "replace_after_s": one.replace_after_s,
        }
        for one in state.secrets.values()
    ]
    nodes = [
        {
            "cluster": cluster,
            "node": node,
            "state": "revoked" if one.is_revoked else "enrolled" if one.claim else "free",
            "by": one.how,
            "at": _day(one.at_ms),
        }
        for (cluster, node), one in sorted(state.nodes.items())
    ]
    if arguments.format == "json":
        print(json.dumps({"secrets": secrets, "nodes": nodes}, indent=2))
    else:
        _print("bootstrap secrets", secrets)
        _print("nodes", nodes)
    for fault in journal.faults:
        show(fault, is_error=True)
    return 1 if journal.faults else 0


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    show(f"{title}: {len(rows)}")
    if rows:
        print_table(tuple(rows[0]), [["" if cell is None else str(cell) for cell in row.values()] for row in rows])


def _revoke(journal: "EnrolmentJournal", arguments: argparse.Namespace) -> int:
    from tokenyield_collector.access.enrolments import Enrolments, EnrolRefused, NodeRevoked, SecretRevoked

    pairs = _pairs(arguments.pairs, ("name", "cluster", "node"))
    if "name" not in pairs:
        return _record(journal, NodeRevoked(_now_ms(), *_node(pairs)))
    if len(pairs) > 1:
        raise _Unusable("expected name= of a secret, or cluster= and node=, found both; leave out one")

    def judge(state: Enrolments) -> tuple[SecretRevoked, None]:
        if pairs["name"] not in state.secrets:
            raise EnrolRefused(
                "unknown_secret", 404, f"name: expected a secret of `enrol list`, found '{pairs['name']}'"
            )
        return SecretRevoked(_now_ms(), pairs["name"]), None

    journal.decide(judge)
    return 0


def _allow(journal: "EnrolmentJournal", arguments: argparse.Namespace) -> int:
    from tokenyield_collector.access.enrolments import NodeAllowed

    return _record(journal, NodeAllowed(_now_ms(), *_node(_pairs(arguments.pairs, ("cluster", "node")))))


def _record(journal: "EnrolmentJournal", event: "Event") -> int:
    journal.decide(lambda _: (event, None))
    return 0


def _forget(journal: "EnrolmentJournal", arguments: argparse.Namespace) -> int:
    days = _whole("days", _pairs(arguments.pairs, ("days",)).get("days", ""), FORGET_DAYS_MAX)
    if days < arguments.days_min:  # a token that ended otherwise than by its day would be valid again
        raise _Unusable(f"days: expected at least enrol_token_days ({arguments.days_min}), found {days}")
    show(f"{journal.forget(_now_ms() - days * 86_400_000)} nodes forgotten")
    return 0


_ACT = {"secret": _secret, "list": _list, "revoke": _revoke, "allow": _allow, "forget": _forget}


def _pairs(texts: list[str], known: tuple[str, ...]) -> dict[str, str]:
    from tokenyield_settings.loader import nearest

    pairs: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not value or value != "".join(value.split()) or not value.isprintable():
            raise _Unusable(f"expected key=value without spaces, found '{text}'")
        if key not in known:
            raise _Unusable(f"unknown key '{key}'{nearest(key, known)}")
        if key in pairs:
            raise _Unusable(f"{key}: expected it once, found it twice; leave out one")
        pairs[key] = value
    return pairs


def _node(pairs: dict[str, str]) -> tuple[str, str]:
    from tokenyield_collector.access.enrolments import NAME

    for key in ("cluster", "node"):
        if not NAME.fullmatch(pairs.get(key, "")):
            raise _Unusable(
                f"{key}: expected the name as `enrol list` shows it, found '{pairs.get(key, '')}'; add {key}=…"
            )
    return pairs["cluster"], pairs["node"]


def _whole(key: str, text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise _Unusable(f"{key}: expected a number from 1 to {most}, found '{text}'")
    return int(text)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 1 <= seconds <= REPLACE_AFTER_S_MAX:
        raise _Unusable(f"replace_after: expected a time as 90s, 30m, 24h or 7d, found '{text}'")
    return seconds


def _day(at_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000
