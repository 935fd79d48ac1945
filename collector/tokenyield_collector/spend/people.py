"""People in spend: personal data, kept only as far as the setting `people` allows. Pure.

off: no person, no session, no team that is known by the person. team (default): the team that the directory gives the
person, and no person. pseudonym: a keyed digest, which changes every quarter, so that a person cannot be followed over
years. name: as the vendor names them, or as the directory does.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from tokenyield_collector.prices.period import day_of
from tokenyield_collector.spend.slices import SpendFields

People = Literal["off", "team", "pseudonym", "name"]
_DIGEST_CHARS = 12
_PSEUDONYM = re.compile(rf"person-[0-9a-f]{{{_DIGEST_CHARS}}}")
"""What a sender made one of already stays."""


class DirectoryEntry(NamedTuple):
    """Of a person: how reports call them, and their team; empty where the directory does not say."""

    name: str = ""
    team: str = ""


def people_filter(
    people: People, directory: Mapping[str, DirectoryEntry], key: bytes = b""
) -> Callable[[SpendFields, int], SpendFields]:
    """What is kept of the fields of a row of a day. `directory`: what vendors call a person, in small letters."""

    def kept(fields: SpendFields, day_ms: int) -> SpendFields:
        if people == "off":  # also of rows that name a session and no person
            return fields._replace(person="", session="") if fields.person or fields.session else fields
        if not fields.person:
            return fields
        entry = directory.get(fields.person.casefold(), DirectoryEntry())
        team = fields.team or entry.team
        if people == "team":
            return fields._replace(person="", team=team)
        if people == "pseudonym" and _PSEUDONYM.fullmatch(fields.person):
            return fields
        name = entry.name or fields.person
        return fields._replace(person=name if people == "name" else pseudonym(key, name, day_ms), team=team)

    return kept


def pseudonym(key: bytes, name: str, day_ms: int) -> str:
    """The same for one person in one quarter."""
    day = day_of(day_ms)
    quarter = f"{day.year}-Q{(day.month + 2) // 3}"
    digest = hmac.new(key, f"{quarter}\0{name.casefold()}".encode(), hashlib.sha256).hexdigest()
    return f"person-{digest[:_DIGEST_CHARS]}"
