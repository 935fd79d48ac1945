"""What is published by a registry: the chart with its provenance, and images by their digests, as docs/release.md says."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from real.build_helm import HELM
from real.registry import running

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "tokenyield"
WHO = "releases@example.com"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(folder: Path) -> Iterator[str]:
    with running(folder) as at:
        yield at


def called(*call: str, fails: bool = False, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})})
    assert (done.returncode != 0) == fails, f"{' '.join(call)}: {done.stderr[-2000:]}"
    return done.stdout + done.stderr


def helm(*call: str, fails: bool = False) -> str:
    return called(str(Path(os.environ["TOKENYIELD_CACHE"]) / f"helm-{HELM}" / "helm"), *call, fails=fails)


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Secret and public keyring of a new key."""
    home = folder / f"gpg-{name}"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", str(home), "--batch", "--passphrase", "")
    called(*gpg, "--quick-generate-key", name, "rsa3072", "sign", "never")
    secret, public = home / "secret.gpg", home / "public.gpg"
    called(*gpg, "--pinentry-mode", "loopback", "--output", str(secret), "--export-secret-keys")
    called(*gpg, "--output", str(public), "--export")
    called("gpgconf", "--homedir", str(home), "--kill", "all")
    return secret, public


def test_a_chart_that_was_signed_and_pushed_is_verified_by_who_pulls_it(folder: Path, registry: str) -> None:
    secret, public = keys(folder, WHO)
    _, stranger = keys(folder, "somebody@example.com")
    helm("package", str(CHART), "--destination", str(folder), "--sign", "--key", WHO, "--keyring", str(secret))
    (package,) = folder.glob("tokenyield-*.tgz")
    version = package.name.removeprefix("tokenyield-").removesuffix(".tgz")
    assert WHO in helm("verify", str(package), "--keyring", str(public))
    helm("push", str(package), f"oci://{registry}/charts", "--plain-http")
    chart = (f"oci://{registry}/charts/tokenyield", "--version", version, "--plain-http", "--verify", "--keyring")
    pulled, no = folder / "pulled", folder / "no"
    for made in (pulled, no):
        made.mkdir()
    helm("pull", *chart, str(public), "--destination", str(pulled))
    assert (pulled / package.name).read_bytes() == package.read_bytes()
    values = ("--values", str(ROOT / "tests" / "chart" / "all.yaml"), "--kube-version", "1.37.0")
    assert helm("template", "t", str(pulled / package.name), *values) == helm("template", "t", str(CHART), *values)
    assert "unknown entity" in helm("pull", *chart, str(stranger), "--destination", str(no), fails=True)
    package.write_bytes(package.read_bytes() + b"\0")
    assert "sha256 sum does not match" in helm("verify", str(package), "--keyring", str(public), fails=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="buildah's chroot isolation needs root")
def test_an_image_is_built_on_a_base_of_a_registry_and_pushed_by_digest(folder: Path, registry: str) -> None:
    environment = {
        "BUILDAH_ISOLATION": "chroot",
        "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "vfs"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
    }
    container = called("buildah", "from", "scratch", environment=environment).strip()
    called(
        "buildah",
        "copy",
        "--quiet",
        container,
        f"{os.environ['TOKENYIELD_CACHE']}/debian-bookworm",
        "/",
        environment=environment,
    )
    called("buildah", "commit", "--quiet", "--rm", container, "localhost/published-base", environment=environment)
    base = pushed(folder, "localhost/published-base", f"{registry}/debian", environment)
    called("buildah", "rmi", "localhost/published-base", environment=environment)
    called(str(ROOT / "containers" / "build"), base, "agent", environment={**environment, "SUFFIX": "-registry"})
    named = "localhost/tokenyield-agent:0.1.0-registry"
    agent = pushed(folder, named, f"{registry}/tokenyield-agent", environment)
    called("buildah", "rmi", named, environment=environment)
    called("buildah", "pull", "--quiet", agent, environment=environment)
    image = json.loads(called("buildah", "inspect", "--type", "image", agent, environment=environment))["Docker"]
    assert image["config"]["Entrypoint"]
    called("buildah", "rmi", agent, environment=environment)
    called("buildah", "rmi", base, environment=environment)


def pushed(folder: Path, image: str, to: str, environment: dict[str, str]) -> str:
    """Its name by digest there."""
    digest = folder / "digest"
    called(
        "buildah",
        "push",
        "--quiet",
        "--digestfile",
        str(digest),
        image,
        f"docker://{to}:0.1.0",
        environment=environment,
    )
    return f"{to}@{digest.read_text().strip()}"
