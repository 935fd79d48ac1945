"""Names of hosts into addresses, without waiting for a resolver that hangs.

In: a host as an address or a name. Out: socket addresses, or None while they are looked up in a short-lived thread. A
lookup that hangs costs who asks for that name; there is one for each name at a time, and few in all.
"""

import ipaddress
import socket
import threading
import time
from dataclasses import dataclass

KNOWN_S = 30.0
"""So long an answer is used again."""
LOOKUPS_MAX = 8
NAMES_MAX = 256


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """What a socket connects to."""

    family: int
    address: tuple[str, int]


@dataclass(slots=True)
class _Lookup:
    addresses: list[SocketAddress] | OSError | None = None
    until_s: float = 0.0


class Resolver:
    """Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, int], _Lookup] = {}

    def addresses(self, host: str, port: int) -> list[SocketAddress] | None:
        """None while they are looked up: ask again. Raises OSError."""
        try:
            version = ipaddress.ip_address(host.partition("%")[0]).version
            return [SocketAddress(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
        except ValueError:
            pass
        with self._lock:
            now_s = time.monotonic()
            lookup = self._lookups.get((host, port))
            if lookup is None or (lookup.addresses is not None and now_s > lookup.until_s):
                if sum(one.addresses is None for one in self._lookups.values()) >= LOOKUPS_MAX:
                    return None
                while len(self._lookups) >= NAMES_MAX:
                    del self._lookups[next(key for key, one in self._lookups.items() if one.addresses is not None)]
                lookup = self._lookups[host, port] = _Lookup()
                threading.Thread(target=self._look_up, args=(host, port, lookup), name="resolve", daemon=True).start()
            found = lookup.addresses
        if isinstance(found, OSError):
            raise OSError(found.errno, f"{host}: {found.strerror}")
        return found

    def _look_up(self, host: str, port: int, lookup: _Lookup) -> None:
        found: list[SocketAddress] | OSError
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [SocketAddress(family, (str(a[0]), int(a[1]))) for family, _, _, _, a in answers]
        except (OSError, UnicodeError) as error:
            found = error if isinstance(error, OSError) else OSError(None, str(error))
        except BaseException:
            found = OSError(None, "the lookup failed")
            raise
        finally:
            with self._lock:
                lookup.addresses, lookup.until_s = found, time.monotonic() + KNOWN_S


RESOLVER = Resolver()
