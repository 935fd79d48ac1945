"""Of the addresses that a tenant can give itself, only its own are asked."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness import wait_until
from pages import get_page
from tokenyield_agent.tokens.page_request import EndpointAddress, ScrapeError
from tokenyield_agent.workloads.askable import is_own_address, may_be_asked
from tokenyield_agent.workloads.procfs import Procfs

NEVER = (
    "169.254.169.254", "169.254.170.2", "169.254.1.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
    "224.0.0.1", "ff02::1", "0.0.0.0", "::", "::ffff:169.254.169.254", "chat.example", "",  # noqa: S104
)  # fmt: skip


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_what_is_never_asked(host: str, is_elsewhere: bool) -> None:
    for own in (True, False):
        assert not may_be_asked(
            host, is_elsewhere=is_elsewhere, is_own=[].__contains__ if not own else [host].__contains__
        )


@pytest.mark.parametrize(
    ("host", "is_elsewhere", "is_own", "expected"),
    [
        ("127.0.0.1", False, True, True),
        ("::1", False, True, True),
        ("127.0.0.1", True, True, False),
        ("10.1.2.3", False, True, True),
        ("10.1.2.3", False, False, False),  # bound with IP_FREEBIND
        ("10.1.2.3", True, False, True),
        ("10.1.2.3", True, True, False),  # this host's, in a namespace of the tenant's own
        ("fd12::3", True, False, True),
    ],
)
def test_the_address_is_of_where_the_process_runs(host: str, is_elsewhere: bool, is_own: bool, expected: bool) -> None:
    assert may_be_asked(host, is_elsewhere=is_elsewhere, is_own=lambda _: is_own) is expected


def test_an_own_address_is_known_whatever_may_be_bound() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("198.51.100.7")


def test_a_foreign_address_that_a_process_binds_is_not_asked() -> None:
    ip_freebind = 15
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, ip_freebind, 1)
        sock.bind(("198.51.100.7", 0))
        sock.listen()
        port = sock.getsockname()[1]
        assert not [address for address in Procfs().listening([os.getpid()]) if address.endswith(f":{port}")]


SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[1], "a").write(self.path + "\\n")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"page 1\\n")
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Page).serve_forever()
"""


@contextmanager
def pod(number: int, asked: Path, *more: str) -> Iterator[int]:
    """A server in a network namespace at 10.213.NUMBER.2, with the addresses `more` of the tenant's own choice."""
    call = ["unshare", "--net", sys.executable, "-c", SERVER, str(asked)]
    started = subprocess.Popen(call)
    inside = f"nsenter -t {started.pid} -n"
    try:
        wait_until(lambda: Procfs()._network_of(started.pid) not in ("", Procfs()._network_of(None)))
        for command in (
            f"ip link add pod{number} type veth peer name inside{number} netns {started.pid}",
            f"ip addr add 10.213.{number}.1/24 dev pod{number}",
            f"ip link set pod{number} up",
            f"{inside} ip addr add 10.213.{number}.2/24 dev inside{number}",
            f"{inside} ip link set inside{number} up",
            f"{inside} ip link set lo up",
            *(f"{inside} ip addr add {address}/32 dev lo" for address in more),
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        wait_until(lambda: f"10.213.{number}.2:8000" in Procfs().listening([started.pid]), what="it listens")
        yield started.pid
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a network of its own cannot be made here: {error.stderr.decode()}")
    finally:
        started.kill()
        started.wait()
        subprocess.run(["ip", "link", "del", f"pod{number}"], check=False, capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2")
def test_a_pod_that_takes_others_addresses_is_asked_at_its_own_only(tmp_path: Path) -> None:
    of_victim, of_tenant = tmp_path / "victim", tmp_path / "tenant"
    with ExitStack() as pods:
        victim = pods.enter_context(pod(80, of_victim))
        foreign = ("10.213.80.2", "169.254.169.254", "10.213.80.1", "100.100.100.200")
        tenant = pods.enter_context(pod(81, of_tenant, *foreign))
        listening = Procfs().listening([tenant])
        assert set(listening) == {"10.213.81.2:8000", "10.213.80.2:8000"}
        own, taken = (
            EndpointAddress(url=f"http://{a}/of-tenant", network=listening[a]) for a in sorted(listening, reverse=True)
        )
        assert get_page(own, 5) == b"page 1\n"
        with pytest.raises(ScrapeError, match="leads to another network") as error:
            get_page(taken, 5)
        assert error.value.reason == "foreign"
        asked = of_victim.read_text() if of_victim.exists() else ""  # an agent of another test may ask it too
        assert "/of-tenant" not in asked
        (address,) = Procfs().listening([victim]).items()
        assert get_page(EndpointAddress(url=f"http://{address[0]}/", network=address[1]), 5) == b"page 1\n"
