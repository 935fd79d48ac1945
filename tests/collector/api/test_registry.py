"""The routes: found by their files, and none open that should not be."""

from pathlib import Path

from tokenyield_collector import api
from tokenyield_collector.api.registry import every_route
from tokenyield_collector.http.right import Right

NOT_ROUTES = {"__init__", "openapi", "pipe", "registry", "report_queue", "services"}


def test_every_file_of_routes_is_found() -> None:
    files = {path.stem for path in Path(api.__file__).parent.glob("*.py")} - NOT_ROUTES
    assert len(files) <= len(every_route())
    assert {route.path.split("/")[-1] for route in every_route() if route.path.startswith("/v1/")} <= files
    assert len({(route.method, route.path) for route in every_route()}) == len(every_route())


def test_only_probes_are_open_and_only_what_is_reported_is_written() -> None:
    paths = {right: {route.path for route in every_route() if route.right == right} for right in Right}
    assert paths[Right.OPEN] == {"/healthz", "/readyz"}
    assert paths[Right.PAGE] == {"/", "/assets/{name:.+}", "/runbooks"}
    assert paths[Right.WRITE] == {"/v1/batches"}
    assert paths[Right.OUTCOMES] == {"/v1/outcomes"}
    assert paths[Right.SPEND] == {"/v1/spend"}
    assert paths[Right.OTLP] == {"/otlp/v1/metrics", "/otlp/v1/logs", "/otlp/v1/traces"}
    assert paths[Right.ENROL] == {"/v1/enrol"}
    writing = (Right.WRITE, Right.OUTCOMES, Right.SPEND, Right.OTLP, Right.ENROL)
    posted = {route.path for route in every_route() if route.right not in writing and route.method != "GET"}
    assert posted == {"/mcp"}, "whose messages are posted, and which only reads"
