"""`tokenyield-collector enrol`: bootstrap secrets, with which nodes get tokens of their own; who enrolled; revocation.

Works on `enrol_dir` itself, whether a collector runs or not: one that runs takes it up within `refresh_interval_s`.
"""

import argparse
from typing import TYPE_CHECKING, Any

from tokenyield_collector.commands.enrol_words import Unusable, day_of, node_of, now_ms, pairs_of, seconds_of, whole_of
from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import print_table, show
from tokenyield_wire.units import MS_PER_DAY

if TYPE_CHECKING:
    from tokenyield_collector.access.enrolment_journal import EnrolmentJournal
    from tokenyield_collector.access.enrolments import Event

HELP = "give nodes tokens of their own: make a bootstrap secret, list who enrolled, revoke"
EXAMPLE = "enrol secret --config /etc/tokenyield/collector.yaml cluster=dc1 'nodes=gpu-*' uses=40 days=7"
ACTIONS = {
    "secret": (
        "make a bootstrap secret: for how many nodes (uses=, default 1), which (nodes=), how long (days=, default 1)",
        "KEY=VALUE",
        "cluster=, nodes=, uses=, days=, may=write|write,gateway, replace_after=90s|30m|24h, workloads=, name=",
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
USES_MAX, DAYS_MAX = 100_000, 366
FORGET_DAYS_MAX = 36_600
_SECRET_KEYS = ("cluster", "nodes", "uses", "days", "may", "replace_after", "workloads", "name")


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
    except Unusable as error:
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
    from tokenyield_collector.access.token_file import scope_of

    pairs, at_ms = pairs_of(arguments.pairs, _SECRET_KEYS), now_ms()
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    may = pairs.get("may", "write")
    if may not in ("write", "write,gateway"):
        raise Unusable(f"may: expected write or write,gateway, found '{may}'")
    if "cluster" not in pairs:
        raise Unusable(
            "cluster: expected the cluster of the nodes, as their agent.yaml names it, found none; add cluster=…"
        )
    days = whole_of("days", pairs.get("days", "1"), DAYS_MAX)
    added = SecretAdded(
        at_ms,
        pairs.get("name") or f"secret-{secrets.token_hex(4)}",
        hashlib.sha256(secret.encode()).hexdigest(),
        pairs["cluster"],
        tuple(pairs.get("nodes", "*").split(",")),
        may,
        whole_of("uses", pairs.get("uses", "1"), USES_MAX),
        at_ms + days * MS_PER_DAY,
        seconds_of(pairs["replace_after"]) if "replace_after" in pairs else None,
        workloads=scope_of(pairs["workloads"].split(",")) if "workloads" in pairs else "",
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
    state, left = journal.state, secrets_left(journal.state, now_ms())
    secrets = [
        {
            "name": one.name,
            "cluster": one.cluster,
            "nodes": ",".join(one.nodes),
            "may": one.may,
            "uses_left": left.get(one.name, 0),
            "until": day_of(one.until_ms),
            "replace_after_s": one.replace_after_s,
            "workloads": one.scope,
        }
        for one in state.secrets.values()
    ]
    nodes = [
        {
            "cluster": cluster,
            "node": node,
            "state": "revoked" if one.is_revoked else "enrolled" if one.claim else "free",
            "by": one.how,
            "at": day_of(one.at_ms),
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

    pairs = pairs_of(arguments.pairs, ("name", "cluster", "node"))
    if "name" not in pairs:
        return _record(journal, NodeRevoked(now_ms(), *node_of(pairs)))
    if len(pairs) > 1:
        raise Unusable("expected name= of a secret, or cluster= and node=, found both; leave out one")

    def judge(state: Enrolments) -> tuple[SecretRevoked, None]:
        if pairs["name"] not in state.secrets:
            raise EnrolRefused(
                "unknown_secret", 404, f"name: expected a secret of `enrol list`, found '{pairs['name']}'"
            )
        return SecretRevoked(now_ms(), pairs["name"]), None

    journal.decide(judge)
    return 0


def _allow(journal: "EnrolmentJournal", arguments: argparse.Namespace) -> int:
    from tokenyield_collector.access.enrolments import NodeAllowed

    return _record(journal, NodeAllowed(now_ms(), *node_of(pairs_of(arguments.pairs, ("cluster", "node")))))


def _record(journal: "EnrolmentJournal", event: "Event") -> int:
    journal.decide(lambda _: (event, None))
    return 0


def _forget(journal: "EnrolmentJournal", arguments: argparse.Namespace) -> int:
    days = whole_of("days", pairs_of(arguments.pairs, ("days",)).get("days", ""), FORGET_DAYS_MAX)
    if days < arguments.days_min:  # a token that ended otherwise than by its day would be valid again
        raise Unusable(f"days: expected at least enrol_token_days ({arguments.days_min}), found {days}")
    show(f"{journal.forget(now_ms() - days * MS_PER_DAY)} nodes forgotten")
    return 0


_ACT = {"secret": _secret, "list": _list, "revoke": _revoke, "allow": _allow, "forget": _forget}
