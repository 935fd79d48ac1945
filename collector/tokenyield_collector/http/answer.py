"""Answers with a body that is compressed where the client accepts it, away from the event loop."""

from concurrent.futures import Executor

from aiohttp import web

from tokenyield_collector.http.route import JSON


def compressed(body: bytes, executor: Executor, content_type: str = JSON) -> web.Response:
    """`content_type` may have parameters. `executor` runs the compression."""
    response = web.Response(body=body, headers={"Content-Type": content_type}, zlib_executor=executor)
    response.enable_compression()
    return response
