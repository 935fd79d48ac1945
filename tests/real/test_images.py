"""The images, built by buildah from a debootstrapped Debian: small, without a shell, not root, and working on loopback."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import free_port, get, wait_until
from real.test_supply import assert_is_of_what_is_inside

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="buildah's chroot isolation needs root")]

ROOT = Path(__file__).parents[2]
VERSION = "0.1.0"
AGENT_BYTES_MAX = 120_000_000
ENVIRONMENT = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "vfs")}


def buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def build(*names: str, **environment: str) -> None:
    base = Path(os.environ["TOKENYIELD_CACHE"]) / "debian-bookworm"
    call = [str(ROOT / "containers" / "build"), str(base), *names]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**ENVIRONMENT, **environment})
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def sboms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sboms")


@pytest.fixture(scope="module", autouse=True)
def images(sboms: Path) -> None:
    build(SBOMS=str(sboms))


class Container:
    """A container of an image, with its root file system mounted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = buildah("from", "--pull-never", f"localhost/{name}:{VERSION}")
        self.root = Path(buildah("mount", self.id))

    def run(self, *call: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(["buildah", "run", self.id, "--", *call], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env=ENVIRONMENT)  # fmt: skip


@pytest.fixture(params=["tokenyield-agent", "tokenyield-collector"])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    container = Container(request.param)
    yield container
    buildah("rm", container.id)


def size(root: Path) -> int:
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def test_what_is_in_it(container: Container) -> None:
    if container.name == "tokenyield-agent":
        assert size(container.root) < AGENT_BYTES_MAX
        assert not list(container.root.glob("opt/*/lib/python3*/site-packages/aiohttp"))
        assert list(container.root.glob("opt/*/lib/python3*/site-packages/h2")), "for the kubelet's pod-resources"
    for absent in ("bin/sh", "bin/bash", "usr/bin/apt", "usr/bin/dpkg", "usr/bin/perl"):
        assert not (container.root / absent).exists()
    setuid = [
        path
        for path in container.root.rglob("*")
        if not path.is_symlink() and path.is_file() and path.stat().st_mode & 0o6000
    ]
    assert not setuid
    assert "libc6" in (container.root / "etc" / "packages.txt").read_text()


def test_its_sbom_lists_what_is_in_it_and_nothing_else(container: Container, sboms: Path) -> None:
    sbom = sboms / f"{container.name}-image.cdx.json"
    assert_is_of_what_is_inside(sbom, container.root)
    debian = (line.split("\t") for line in (container.root / "etc" / "packages.txt").read_text().splitlines())
    listed = {purl.partition("?")[0] for component in json.loads(sbom.read_text())["components"]
              if (purl := component["purl"]).startswith("pkg:deb/")}  # fmt: skip
    assert listed == {f"pkg:deb/debian/{name.partition(':')[0]}@{version}" for name, version in debian}


def test_an_image_that_is_built_again_is_the_same() -> None:
    """The smaller of both: they are made by the same steps. All but the name of the container in which buildah made it."""

    def made(suffix: str) -> dict[str, Any]:
        image = buildah("inspect", "--type", "image", f"localhost/tokenyield-agent:{VERSION}{suffix}")
        config: dict[str, Any] = json.loads(image)["Docker"]
        del config["container"]
        for part in ("config", "container_config"):
            del config[part]["Hostname"]
        return config

    build("agent", SUFFIX="-again", TZ="Asia/Kathmandu")
    first, second = made(""), made("-again")
    assert first["rootfs"]["diff_ids"]
    assert first == second


@pytest.mark.parametrize("base", ["docker.io/library/debian:bookworm-slim", "debian", "debian@sha256:12"])
def test_a_base_that_can_be_another_tomorrow_is_refused(base: str) -> None:
    done = subprocess.run([ROOT / "containers" / "build", base], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected a folder or an image by its digest" in done.stderr


def test_its_labels_and_configuration(container: Container) -> None:
    config = json.loads(buildah("inspect", "--type", "image", f"localhost/{container.name}:{VERSION}"))["Docker"][
        "config"
    ]
    user, _, group = config["User"].partition(":")
    assert int(user) > 10_000
    assert user == group
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Healthcheck"]["Test"][:3] == ["CMD", container.name, "health"]
    assert config["Entrypoint"] == [container.name]


def test_the_settings_in_it_are_accepted(container: Container) -> None:
    short = container.name.removeprefix("tokenyield-")
    with container.run(container.name, "check", "--config", f"/etc/tokenyield/{short}.yaml") as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output


def test_agent_and_collector_run() -> None:
    """As the images' own users, on this host's loopback; there is no GPU, and the agent reports that and ships its windows."""
    agent, collector = Container("tokenyield-agent"), Container("tokenyield-collector")
    port, agent_port = free_port(), free_port()
    settings = [f"--set=listen=127.0.0.1:{port}", "--set=refresh_interval_s=0.5"]
    agent_settings = [f"--set=collector_url=http://127.0.0.1:{port}", f"--set=status_listen=127.0.0.1:{agent_port}",
                      "--set=gpu_reader=none", "--set=window_length_s=1", "--set=window_settle_s=0"]  # fmt: skip
    serving = collector.run("tokenyield-collector", "serve", *settings)
    watching = agent.run("tokenyield-agent", "run", *agent_settings)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), what="the collector is ready")
        wait_until(lambda: answers(f"http://127.0.0.1:{agent_port}/healthz"), what="the agent is healthy")
        wait_until(lambda: accepted(port) > 0, what="batches arrive")
        assert exit_code(collector, "tokenyield-collector", "health", *settings) == 0
        assert exit_code(agent, "tokenyield-agent", "health", *agent_settings) == 0
        assert exit_code(agent, "tokenyield-agent", "health", f"--set=status_listen=127.0.0.1:{free_port()}") == 1
        titles = {
            path.parent.name: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if mine(path, port)
        }
        users = {
            os.stat(f"/proc/{pid}").st_uid for pid in titles if b"/opt/" in titles[pid] or b"python" in titles[pid]
        }
        assert users & {10464, 10465}
    finally:
        for pid in [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if mine(path, port)]:
            subprocess.run(["kill", pid], check=False)
        for process in (serving, watching):
            process.communicate(timeout=60)
        for container in (agent, collector):
            buildah("rm", container.id)


def exit_code(container: Container, *call: str) -> int:
    with container.run(*call) as process:
        process.communicate(timeout=120)
    return process.returncode


def mine(path: Path, port: int) -> bool:
    try:
        title = path.read_bytes()
    except OSError:
        return False
    return f"127.0.0.1:{port}".encode() in title and b"buildah" not in title


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def accepted(port: int) -> float:
    for line in get(f"http://127.0.0.1:{port}/metrics").decode().splitlines():
        if line.startswith("tokenyield_collector_batches_total"):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_the_container_files_are_linted() -> None:
    version = subprocess.run(
        ["python3", str(ROOT / "tests" / "real" / "own_venv.py"), "--version", "hadolint"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    program = Path(os.environ["TOKENYIELD_CACHE"]) / f"hadolint-{version}" / "bin" / "hadolint"
    for name in ("agent", "collector"):
        done = subprocess.run([program, ROOT / name / "Containerfile"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
