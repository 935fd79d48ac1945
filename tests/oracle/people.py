"""Who a piece of work belongs to, by the rules' YAML; and how names are written. From docs/money.md; nothing of the
product."""

import re
import unicodedata
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

PLAIN = ("cluster", "workload", "model", "namespace", "unit")
DEFAULT_DIMENSIONS = ("team", "product")
SHARING = {"idle": "ownership", "unallocated": "apart", "dark": "apart"}


class People:
    """Of one file of rules."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.dimensions: tuple[str, ...] = tuple(document.get("dimensions") or DEFAULT_DIMENSIONS)
        first = self.dimensions[0]
        self.rules = document.get("rules")
        if self.rules is None:
            self.rules = [
                {
                    "match": {"gateway": {first: "?*"}},
                    "set": {first: f"{{gateway.{first}}}"}
                    | {name: f"{{gateway.{name}|labels.{name}}}" for name in self.dimensions[1:]},
                },
                {"match": {"labels": {first: "?*"}}, "set": {name: f"{{labels.{name}}}" for name in self.dimensions}},
            ]
        self.aliases: Mapping[str, str] = document.get("gateway_models") or {}
        self.sharing: Mapping[str, str] = {**SHARING, **(document.get("sharing") or {})}

    @property
    def nobody(self) -> tuple[None, ...]:
        return (None,) * len(self.dimensions)

    def values(
        self, cluster: str, workload: str, model: str, labels: Mapping[str, str], caller: Mapping[str, str]
    ) -> tuple[str | None, ...]:
        """The first rule that matches gives each dimension its value."""
        known = known_of(cluster, workload, model, labels, caller)
        for rule in self.rules or ():
            match = rule.get("match") or {}
            patterns = {name: match[name] for name in PLAIN if match.get(name) is not None}
            patterns |= {f"labels.{name}": pattern for name, pattern in (match.get("labels") or {}).items()}
            patterns |= {f"gateway.{name}": pattern for name, pattern in (match.get("gateway") or {}).items()}
            if matches(patterns, known):
                return tuple(filled((rule.get("set") or {}).get(name, ""), known) for name in self.dimensions)
        return (None,) * len(self.dimensions)


def known_of(
    cluster: str, workload: str, model: str, labels: Mapping[str, str], caller: Mapping[str, str]
) -> dict[str, str]:
    """What is known of a piece of work, under the names that rules use."""
    known = {"cluster": cluster, "workload": workload, "model": model}
    known |= {name: labels[name] for name in ("namespace", "unit") if name in labels}
    known |= {f"labels.{name}": value for name, value in labels.items()}
    known |= {f"gateway.{name}": value for name, value in caller.items()}
    return {name: value for name, value in known.items() if value}


def matches(patterns: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Shell patterns, all of which must fit; none fits what is unknown."""
    return all(name in known and fnmatchcase(known[name], pattern) for name, pattern in patterns.items())


def filled(template: str, known: Mapping[str, str]) -> str | None:
    """`{a|b}` is the first of both that is known."""
    return (
        re.sub(r"\{([^}]*)\}", lambda found: next(filter(None, map(known.get, found[1].split("|"))), ""), template)
        or None
    )


def written(name: str) -> str:
    """As reports write it: in quotes where it reads like a marker."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if c.isprintable()).casefold().strip('" ')
    reads_like_marker = seen.startswith("(") or seen in ("", "unattributed", "unknown model", "sum", "-")
    return f'"{name}"' if name and reads_like_marker else name


def spreadsheet(name: str) -> str:
    """As CSV and FOCUS write it: an apostrophe before what would be computed."""
    return f"'{name}" if name[:1] in ("=", "+", "-", "@", "'") else name
