"""A Docker of its own: dockerd with all that it writes in one folder, and an image that has only a server's libraries.

It runs in a mount namespace with a /run and an /etc/docker of its own, and makes no network, so that nothing of it is left
on this machine. Its containers are in cgroups named as Docker names them, and their processes are this host's.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import wait_until

IMAGE = "server"
CGROUPS = Path("/sys/fs/cgroup")


class DockerHost:
    def __init__(self, *programs: Path) -> None:
        """An image with `programs` in /bin, and the libraries that they load."""
        self.folder = Path(tempfile.mkdtemp(prefix="ty-docker-", dir="/tmp"))
        self.containers = self.folder / "data" / "containers"
        self._env = {**os.environ, "DOCKER_HOST": f"unix://{self.folder}/socket", "DOCKER_CONFIG": str(self.folder)}
        self._had_cgroups = set(CGROUPS.glob("*/docker"))
        self._programs = programs
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.folder / "daemon.json").write_text("{}")
        dockerd = f"dockerd --config-file={self.folder}/daemon.json --data-root={self.folder}/data"
        dockerd += f" --exec-root={self.folder}/exec --pidfile={self.folder}/pid --host=unix://{self.folder}/socket"
        dockerd += " --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs"
        own_run = f"mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /etc/docker && exec {dockerd}"
        with (self.folder / "dockerd.out").open("wb") as out:
            call = ["unshare", "--mount", "--propagation", "private", "sh", "-c", own_run]
            self._daemon = subprocess.Popen(call, stdout=out, stderr=out)
        wait_until(self._answers, what="dockerd answers")
        root = self.folder / "image"
        for program in self._programs:
            for file in [str(program), *re.findall(r"/lib\S+", self._output("ldd", str(program)))]:
                target = root / ("bin/" + program.name if file == str(program) else file.lstrip("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        archive = self.folder / "image.tar"
        self._output("tar", "-C", str(root), "-cf", str(archive), ".")
        self.run(f"import {archive} {IMAGE}")

    def _answers(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, (self.folder / "dockerd.out").read_text()[-2000:]
        call = ["docker", "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(call, env=self._env, check=False, capture_output=True).returncode == 0

    def _output(self, *call: str) -> str:
        done = subprocess.run(call, env=self._env, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(call)}: {done.stderr}"
        return done.stdout.strip()

    def run(self, command: str) -> str:
        """Of `docker`."""
        return self._output("docker", *shlex.split(command))

    def start_container(self, name: str, command: str, *options: str) -> str:
        """Its id. `command`: a program of the image and its arguments."""
        call = ["docker", "run", "--detach", f"--name={name}", "--network=host", *options, IMAGE, *shlex.split(command)]
        return self._output(*call)

    def pid_of(self, name: str) -> int:
        """This host's number of the container's process."""
        return int(self.run(f"inspect --format '{{{{.State.Pid}}}}' {name}"))

    def stop(self) -> None:
        daemon = self._daemon
        if daemon is not None:
            with contextlib.suppress(AssertionError):
                for container in self.run("ps --all --quiet").split():
                    self.run(f"rm --force {container}")
            daemon.terminate()
            daemon.wait(60)
        for folder in set(CGROUPS.glob("*/docker")) - self._had_cgroups:
            with contextlib.suppress(OSError):
                folder.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)
