"""Serves the built-in page: `/` and `/assets/NAME`.

In: the files of static/, all read at start, so that no request ever leads to a file. Out: HTTP answers with a content
security policy under which the page loads from, and sends requests to, only the collector itself.
"""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

from tokenyield_collector.access.headers import PAGE_POLICY
from tokenyield_collector.http.problem import problem

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class _Asset(NamedTuple):
    body: bytes
    zipped: bytes
    headers: dict[str, str]


class Page:
    """The handlers."""

    def __init__(self) -> None:
        self._assets: dict[str, _Asset] = {}
        for path in sorted(STATIC.rglob("*")):
            if path.suffix in _TYPES:
                self._assets[path.relative_to(STATIC).as_posix()] = _asset(path)

    async def index(self, request: web.Request) -> web.Response:
        return self._answer(request, "index.html")

    async def asset(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["name"])

    def _answer(self, request: web.Request, name: str) -> web.Response:
        asset = self._assets.get(name)
        if asset is None:
            return problem(404, f"GET {request.path[:200]}")
        if request.headers.get(hdrs.IF_NONE_MATCH) == asset.headers["ETag"]:
            return web.Response(status=304, headers=asset.headers)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            return web.Response(body=asset.zipped, headers={**asset.headers, "Content-Encoding": "gzip"})
        return web.Response(body=asset.body, headers=asset.headers)


def _asset(path: Path) -> _Asset:
    body = path.read_bytes()
    headers = {
        "Content-Type": _TYPES[path.suffix],
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": PAGE_POLICY,
    }
    return _Asset(body, gzip.compress(body, mtime=0), headers)
