"""A route as a value: what it requires, what it takes and what it answers. The API's description is made of these."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tokenyield_collector.http.right import Right, TeamAnswer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
JSON = "application/json"
TEXT = "text/plain"


@dataclass(frozen=True, kw_only=True)
class QueryParameter:
    """`schema` is a JSON schema."""

    name: str
    schema: Mapping[str, Any]
    description: str
    is_required: bool = False


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method and path, as aiohttp writes paths."""

    path: str
    method: str = "GET"
    right: Right = Right.READ
    summary: str = ""
    """One sentence; empty where the route is not part of the API, as the page is not."""
    answers: Mapping[str, Any]
    """Media type -> a type of schemas.py, or a JSON schema."""
    refusals: tuple[int, ...] = ()
    """Statuses besides those of authentication."""
    parameters: tuple[QueryParameter, ...] = ()
    body: type | None = None
    to_teams: TeamAnswer | None = None
    """To be stated of every route that a reader's token opens; without, it is refused."""


BoundRoute = tuple[Route, Handler]
