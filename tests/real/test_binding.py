"""Processes in real cgroups and network namespaces: a server in a container of its own, found, tied and scraped."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness import wait_until
from tokenyield_agent.config import Settings
from tokenyield_agent.gpu.reading import GpuProcess, GpuReading
from tokenyield_agent.workloads.process_location import Place
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_agent.workloads.roster import Roster

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

UID = "3a1bc2d4-5e6f-4a7b-8c9d-0e1f2a3b4c5d"
CONTAINER = "0f3c" * 16
LINK, SUBNET = f"ty{os.getpid()}", f"10.213.{os.getpid() % 250 + 1}"
ADDRESS, PORT = f"{SUBNET}.2", 8123
SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == "/metrics"
        self.send_response(200 if good else 404)
        self.end_headers()
        if good:
            self.wfile.write(b'vllm:generation_tokens_total{model_name="m"} 42.0\\nvllm:prompt_tokens_total 7.0\\n')
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[-1])), Page).serve_forever()
"""


def cgroup_folder() -> Path:
    """A hierarchy in which this machine lets us make groups: version 2, or any controller of version 1."""
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/pids")):
        if (root / "cgroup.procs").exists() and os.access(root, os.W_OK):
            return root
    pytest.skip("no cgroup hierarchy that may be written: run as root")


@pytest.fixture
def pod_cgroup() -> Iterator[Path]:
    """Of a container. A kubelet of this machine has a `kubepods` of its own, so only what is made here is removed."""
    folder = cgroup_folder() / "kubepods" / "burstable" / f"pod{UID}" / CONTAINER
    made = [level for level in (folder, *folder.parents) if not level.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        pytest.skip(f"cgroups cannot be made here: {error}")
    finally:
        for level in made:
            with contextlib.suppress(FileNotFoundError):
                level.rmdir()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`vllm serve` by its command line, in a network namespace with an address that this host reaches."""
    script = tmp_path / "vllm"
    script.write_text(SERVER)
    call = ["unshare", "--net", sys.executable, str(script), "serve", "--port", str(PORT)]
    started = subprocess.Popen(call)
    procfs = Procfs()
    wait_until(lambda: bool(procfs._text(started.pid, "cmdline").startswith(sys.executable)))
    if shutil.which("ip") is None:
        started.kill()
        started.wait()
        pytest.fail("apt install iproute2")
    try:
        for command in (
            f"ip link add {LINK} type veth peer name ty1 netns {started.pid}",
            f"ip addr add {SUBNET}.1/24 dev {LINK}",
            f"ip link set {LINK} up",
            f"nsenter -t {started.pid} -n ip addr add {ADDRESS}/24 dev ty1",
            f"nsenter -t {started.pid} -n ip link set ty1 up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        yield started
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a network of its own cannot be made here: {error.stderr.decode()}")
    finally:
        started.kill()
        started.wait()
        subprocess.run(["ip", "link", "del", LINK], check=False, capture_output=True)


def test_a_server_in_a_pod_of_its_own(pod_cgroup: Path, server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (pod_cgroup / "cgroup.procs").write_text(str(server.pid))
    log = tmp_path / "pods" / f"prod_chat-0_{UID}" / "server" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_text("")
    process = Procfs().process(server.pid)
    assert process is not None
    assert process.place == Place(container=CONTAINER, pod_uid=UID)
    wait_until(lambda: list(Procfs().listening([server.pid])) == [f"{ADDRESS}:{PORT}"])
    settings = replace(Settings(), pods_dir=str(tmp_path / "pods"), scrape_interval_s=1.0)
    roster = Roster(settings, marks={})
    gpu = GpuReading(uuid="GPU-0", index=0, processes=(GpuProcess(pid=server.pid),))
    try:
        holdings = roster.holdings((gpu,), time.monotonic())
        assert holdings["GPU-0"].weights == {"prod/chat-0/server": 1}
        wait_until(lambda: "prod/chat-0/server" in roster.scraper.answering())
        assert roster.scraper.answering()["prod/chat-0/server"] == (f"http://{ADDRESS}:{PORT}/metrics", "vllm")

        def has_model() -> bool:
            roster.poll(1000, time.monotonic())
            return roster.names()["prod/chat-0/server"].model is not None

        wait_until(has_model, what="its page is read")
        name = roster.names()["prod/chat-0/server"]
        assert (name.server, name.model, name.place) == ("vllm", "m", "prod/chat-0")
        assert name.labels == {"namespace": "prod", "pod": "chat-0", "container": "server"}
    finally:
        roster.close()


def test_a_log_behind_a_pipe_is_the_servers(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.touch()
    status = log.stat()
    call = ["bash", "-c", f"sleep 600 2>&1 | tee {log}; true"]
    shell = subprocess.Popen(call, start_new_session=True)
    procfs = Procfs()
    try:

        def sleepers() -> list[int]:
            return [pid for pid in procfs.descendants_of(shell.pid) if procfs.argv_of(pid)[:1] == ("sleep",)]

        wait_until(lambda: bool(sleepers()))
        (sleeper,) = sleepers()
        wait_until(lambda: procfs.writes_to(sleeper, {(status.st_dev, status.st_ino)}))
        assert not procfs.writes_to(os.getpid(), {(status.st_dev, status.st_ino)})
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()


def test_sockets_of_this_host_are_found_by_their_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as loopback, socket.create_server(("0.0.0.0", 0)) as anywhere:  # noqa: S104
        ports = {loopback.getsockname()[1], anywhere.getsockname()[1]}
        found = Procfs().listening([os.getpid()])
        assert {f"127.0.0.1:{port}" for port in ports} <= set(found)
    assert not ports & {int(address.rpartition(":")[2]) for address in Procfs().listening([os.getpid()])}
