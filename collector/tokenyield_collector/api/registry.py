"""Finds the routes: every file of this folder that has some."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Protocol, cast

from tokenyield_collector import api
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.route import BoundRoute, Route


class RouteFile(Protocol):
    """What a file with routes exports."""

    ROUTES: tuple[Route, ...]

    def routes(self, services: Services) -> list[BoundRoute]:
        """The handler of each of `ROUTES`."""
        ...


def route_files() -> Iterator[RouteFile]:
    """In the order of their names."""
    for name in sorted(module.name for module in pkgutil.iter_modules(api.__path__)):
        module = import_module(f"{api.__name__}.{name}")
        if hasattr(module, "ROUTES"):
            yield cast(RouteFile, module)


def every_route() -> list[Route]:
    return [route for file in route_files() for route in file.ROUTES]


def bound_routes(services: Services) -> list[BoundRoute]:
    bound = [pair for file in route_files() for pair in file.routes(services)]
    assert [route for route, _ in bound] == every_route()
    return bound
