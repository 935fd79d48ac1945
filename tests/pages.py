"""A page of an agent's endpoint, waited for by itself; the agent drives many at once (tokens/scrape.py)."""

from tokenyield_agent.http.connection import wait_for
from tokenyield_agent.tokens.page_request import EndpointAddress, page_steps, too_slow


def get_page(address: EndpointAddress, timeout_s: float) -> bytes:
    """The page at `address`, after `timeout_s` at most. Raises `ScrapeError`."""
    try:
        return wait_for(page_steps(address), timeout_s)
    except TimeoutError:
        raise too_slow(address, timeout_s) from None
