"""Whatever a server does with a connection, the exchange ends in its time."""

import socket
import threading
import time
from collections.abc import Callable

import pytest

from hostile_server import BEHAVIOURS, HostileServer, hostile
from tokenyield_agent.http import resolve
from tokenyield_agent.http.answer import BadAnswer
from tokenyield_agent.http.connection import Connection, request_bytes, wait_for

BODY_BYTES_MAX = 16 << 20


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_every_behaviour_ends_in_its_time(behaviour: Callable[[HostileServer, socket.socket], None]) -> None:
    """In the time of the exchange and not of one wait in it; how long that is on this machine does not matter."""
    with hostile(behaviour) as server:
        connection = Connection("127.0.0.1", server.port)
        try:
            wait_for(connection.exchange(request_bytes("GET", "/", "x", {}), BODY_BYTES_MAX), 1.0)
        except (OSError, BadAnswer):
            pass
        finally:
            connection.close()


def test_a_resolver_that_hangs_costs_who_asks_for_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    whole = socket.getaddrinfo

    def hangs(host: str, *words: object, **named: object) -> object:
        if host == "hangs.example":
            go.wait()
        return whole("127.0.0.1", *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    monkeypatch.setattr(resolve.RESOLVER, "_lookups", {})
    try:
        connection = Connection("hangs.example", 80)
        with pytest.raises(TimeoutError):
            wait_for(connection.exchange(b"GET / HTTP/1.1\r\n\r\n", 10), 0.3)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            other = Connection("answers.example", listener.getsockname()[1])
            with pytest.raises(TimeoutError):
                wait_for(other.exchange(b"GET / HTTP/1.1\r\n\r\n", 10), 0.5)
            assert other.opened == 1
            other.close()
    finally:
        go.set()
        time.sleep(0.05)


@pytest.mark.parametrize("header", ["a\r\nX: y", "\u00f6", "\ufeffty", "a\x00b"])
def test_no_header_is_sent_that_is_none(header: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        request_bytes("GET", "/", "x", {"Authorization": header})
