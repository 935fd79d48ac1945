"""How a body is read within its time and size, and what is answered where it is not used."""

import asyncio

from aiohttp import web

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.http.problem import problem
from tokenyield_wire.window import Fault


class Refusal(Exception):
    """A body that changes nothing. `reason` is what it is counted as."""

    def __init__(
        self, reason: str, status: int, detail: str, faults: tuple[Fault, ...] = (), retry_after_s: int | None = None
    ) -> None:
        self.reason = reason
        self.status = status
        self.detail = detail
        self.faults = faults
        self._headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}

    @property
    def answer(self) -> web.Response:
        return problem(self.status, self.detail, faults=self.faults, headers=self._headers)


async def read_body(request: web.Request, settings: CollectorSettings, content: str) -> bytes:
    """As it was sent. `content` is what there is less of in a shorter one. Raises `Refusal`."""
    try:
        async with asyncio.timeout(settings.body_wait_s):
            return await request.read()
    except TimeoutError:
        detail = f"the body did not arrive within {settings.body_wait_s} s (body_wait_s)"
        raise Refusal("slow", 408, detail) from None
    except ConnectionError:  # nobody is there to read this answer
        raise Refusal("broken_off", 400, "the connection broke off within the body") from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large(settings, content) from None


def too_large(settings: CollectorSettings, content: str) -> Refusal:
    detail = f"body: expected at most {settings.body_bytes_max} bytes, found more; send fewer {content} at once"
    return Refusal("too_large", 413, detail)
