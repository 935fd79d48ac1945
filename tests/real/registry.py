"""A real registry for images and charts, without TLS, in a folder: started, stopped."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness import answers, free_port, wait_until


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Its host and port. In `folder` is also registries.conf, by which buildah reaches it without TLS."""
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'stored'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    at = f"127.0.0.1:{port}"
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{at}"\ninsecure = true\n')
    with (folder / "registry.out").open("wb") as out:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=out, stderr=out)
    try:
        wait_until(lambda: answers(f"http://{at}/v2/"), what="the registry answers")
        yield at
    finally:
        process.terminate()
        process.wait()
