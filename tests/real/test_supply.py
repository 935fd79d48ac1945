"""What is shipped: packages that are the same bytes when they are built again, SBOMs of what is in them, and signatures of both."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from real.own_venv import install

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("TOKENYIELD_CACHE", ""))
UNCHECKED_HASH = b"\x01\0\0\0"
"""The flags of a .pyc that has the hash of its source instead of a time, and that is used without a look at either (PEP 552)."""
NAMES = ["tokenyield-agent", "tokenyield-collector"]


def package_of(name: str, folder: Path) -> Path:
    (package,) = folder.glob(f"{name}_*.deb")
    return package


def unpacked(package: Path, part: str) -> bytes:
    """The tar archive of the package's files (--fsys-tarfile) or of its control files (--ctrl-tarfile)."""
    return subprocess.run(["dpkg-deb", part, str(package)], capture_output=True, check=True).stdout


def made_at_s(package: Path) -> int:
    with tarfile.open(fileobj=io.BytesIO(unpacked(package, "--fsys-tarfile"))) as archive:
        return max(int(member.mtime) for member in archive)


def members(archive: bytes) -> dict[str, tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            member.name: (member.mode, member.uid, member.mtime, member.linkname,
                          hashlib.sha256(file.read()).hexdigest() if (file := opened.extractfile(member)) else "")
            for member in opened if not member.issym()
        }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_package_that_is_built_again_elsewhere_is_the_same(name: str, tmp_path: Path) -> None:
    """Built by `make packages`, and here: in another folder with a long name, with another umask, time zone and order of sets."""
    first = package_of(name, ROOT / "dist")
    work, out = tmp_path / ("a-folder-with-a-long-name-" * 6), tmp_path / "out"
    environment = {**os.environ, "BUILD": str(work), "OUT": str(out), "XZ_LEVEL": "none", "TZ": "Asia/Kathmandu",
                   "PYTHONHASHSEED": "7", "PACKAGES": name.removeprefix("tokenyield-"), "SOURCE_DATE_EPOCH": str(made_at_s(first))}  # fmt: skip
    (wheel,) = (ROOT / "dist").glob("*.whl")
    call = ["sh", "-c", 'umask 077 && exec "$@"', "sh", str(ROOT / "systemd" / "build-packages"), str(wheel)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    second = package_of(name, out)
    for part in ("--fsys-tarfile", "--ctrl-tarfile"):
        ours, theirs = unpacked(first, part), unpacked(second, part)
        if ours != theirs:
            before, after = members(ours), members(theirs)
            paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
            pytest.fail(
                f"{part}: {len(paths)} differ: {[(path, before.get(path), after.get(path)) for path in paths[:5]]}"
            )
    tarballs = [path.read_bytes() for path in (*(ROOT / "dist").glob(f"{name}_*.tar.gz"), *out.glob("*.tar.gz"))]
    assert len(tarballs) == 2
    assert tarballs[0] == tarballs[1]
    shutil.rmtree(tmp_path)


def files_of(document: dict[str, Any]) -> dict[str, str]:
    """path -> SHA-256 of all that an SBOM lists; each path once."""
    components = [document["metadata"]["component"], *document["components"]]
    listed = [file for component in components for file in component.get("components", [])]
    found = {file["name"]: file["hashes"][0]["content"] for file in listed}
    assert len(found) == len(listed)
    return found


def files_in(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*") if path.is_file() and not path.is_symlink()
    }  # fmt: skip


def assert_is_of_what_is_inside(sbom: Path, root: Path) -> None:
    """Every file, with its hash; every distribution of Python, with its version; by the schema of CycloneDX."""
    document = json.loads(sbom.read_text())
    assert files_of(document) == files_in(root)
    assert not [path for path in root.rglob("*.pyc") if path.read_bytes()[4:8] != UNCHECKED_HASH], (
        "compiled with a time"
    )
    (site,) = root.glob("opt/*/lib/python3*/site-packages")
    installed = {
        (re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(), one.version) for one in metadata.distributions(path=[str(site)])
    }  # fmt: skip
    purls = [component["purl"] for component in document["components"]]
    assert {f"pkg:pypi/{name}@{version}" for name, version in installed} == {
        p for p in purls if p.startswith("pkg:pypi/")
    }
    assert ("pkg:npm/uplot@" in " ".join(purls)) == bool(list(root.glob("opt/**/vendor/uPlot*")))
    validate = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator;"
        "fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()); sys.exit(fault and str(fault)[:500])"
    )
    python = install("audit", CACHE).parent / "python"
    done = subprocess.run([python, "-c", validate, sbom], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_sbom_lists_what_is_in_the_package_and_nothing_else(name: str, tmp_path: Path) -> None:
    package, sbom = package_of(name, ROOT / "dist"), tmp_path / "sbom.json"
    subprocess.run([ROOT / ".ci" / "sbom", package, sbom], check=True)
    root = tmp_path / "root"
    subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    assert_is_of_what_is_inside(sbom, root)
    locked = re.findall(r"^([\w.-]+)==([\w.!+]+)", (ROOT / "locks" / f"{name[11:]}.txt").read_text(), re.MULTILINE)
    document = json.loads(sbom.read_text())
    others = {component["purl"] for component in document["components"]} - {f"pkg:pypi/{n}@{v}" for n, v in locked}
    assert {purl.partition("@")[0] for purl in others} <= {"pkg:pypi/tokenyield-fleet", "pkg:npm/uplot"}


def test_the_signing_of_a_release_as_documented(tmp_path: Path) -> None:
    """The commands of docs/release.md, with a key without a password; then a changed package, and a changed list."""
    signing, verifying = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "release.md").read_text(), re.DOTALL)[1:3]
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "tokenyield-agent_0.1.0_amd64.deb").write_bytes(b"a package")
    listing = subprocess.run(
        ["sha256sum", "tokenyield-agent_0.1.0_amd64.deb"], cwd=dist, capture_output=True, check=True
    )
    (dist / "SHA256SUMS").write_bytes(listing.stdout)

    def run(script: str) -> "subprocess.CompletedProcess[str]":
        home = {**os.environ, "HOME": str(tmp_path)}
        return subprocess.run(
            ["sh", "-ec", script], cwd=tmp_path, env=home, capture_output=True, text=True, check=False
        )

    done = run(signing.replace("minisign -G", "minisign -G -W"))
    assert done.returncode == 0, done.stderr
    assert run(verifying).returncode == 0
    (dist / "tokenyield-agent_0.1.0_amd64.deb").write_bytes(b"another")
    assert run(verifying).returncode != 0
    (dist / "SHA256SUMS").write_bytes(b"")
    assert run(verifying).returncode != 0
