"""Images for the node, as docker-archive: small ones made here of single files, and ours, built by containers/build."""

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAUSE = "#include <signal.h>\n#include <unistd.h>\nint main(void) { signal(SIGTERM, _exit); signal(SIGCHLD, SIG_IGN); for (;;) pause(); }\n"
"""What holds a pod's namespaces; also a pod that runs nothing."""


def pause(folder: Path) -> Path:
    """localhost/pause:1"""
    source = folder / "pause.c"
    source.write_text(PAUSE)
    subprocess.run(["cc", "-static", "-O2", "-s", "-o", folder / "pause", source], check=True)
    return archive(folder, "localhost/pause:1", {"/pause": folder / "pause"}, ["/pause"])


def llama_server(folder: Path, program: Path, model: Path) -> Path:
    """localhost/llama-server:1, with a model inside."""
    files = {"/llama-server": program, "/tiny.gguf": model}
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        files[library] = Path(library).resolve()
    return archive(folder, "localhost/llama-server:1", files, ["/llama-server", "-m", "/tiny.gguf"])


def archive(folder: Path, name: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> Path:
    """An image of these files alone (path in it -> file here), in `folder`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for inside, path in files.items():
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size, entry.mode = path.stat().st_size, 0o755
            with path.open("rb") as file:
                tar.addfile(entry, file)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {"architecture": "amd64" if os.uname().machine == "x86_64" else "arm64", "os": "linux",
              "config": {"Entrypoint": list(entrypoint)}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}  # fmt: skip
    out = folder / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
    with tarfile.open(out, "w") as tar:
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        for inside, content in (("layer.tar", layer.getvalue()), ("config.json", json.dumps(config).encode()),
                                ("manifest.json", json.dumps(manifest).encode())):  # fmt: skip
            entry = tarfile.TarInfo(inside)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out


def ours(folder: Path, cache: Path) -> list[Path]:
    """Agent and collector, as `make images` builds them."""
    environment = {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "vfs"),
    }
    archives = []

    def run(*call: str | Path) -> None:
        done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]

    run(ROOT / "containers" / "build", cache / "debian-bookworm")
    (wheel,) = (ROOT / "dist").glob("tokenyield_fleet-*.whl")
    version = wheel.name.split("-")[1]
    for name in ("tokenyield-agent", "tokenyield-collector"):
        image = f"localhost/{name}:{version}"
        archives.append(folder / f"{name}.tar")
        archives[-1].unlink(missing_ok=True)  # buildah adds to none
        run("buildah", "push", "--quiet", image, f"docker-archive:{archives[-1]}:{image}")
    return archives
