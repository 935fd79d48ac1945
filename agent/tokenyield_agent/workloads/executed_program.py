"""Which program a process executes, read off its argument vector. Pure.

In: argv and the resolved executable. Out: an `ExecutedProgram`: the program or script, or the Python module, that runs
*in this process*. What only stands in its arguments is not it: a shell with `-c`, tmux, sudo, timeout, an editor or
grep start a program or read a file of that name, and the program that they start is a process of its own.

    /opt/venv/bin/python3 -u -m vllm.entrypoints.openai.api_server --model m     the module
    /usr/bin/python3 /usr/local/bin/vllm serve m                                 the script, with `serve m`
    /bin/bash /opt/nim/start-server.sh                                           the script
    /lib64/ld-linux-x86-64.so.2 /opt/llama/llama-server -m m.gguf                the program that is loaded
    VLLM::Worker_TP0                                                             a title that the process gave itself
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

NESTED_MAX = 4
"""Programs that load another one into the same process, one within the other."""
_PYTHON = re.compile(r"^(?:python|pypy)[\d.]*(?:t|d)?$")
_PYTHON_OPTION = re.compile(r"^-[bBdEhiIOPqRsSuvVx?]*(?P<letter>[mcWX])(?P<value>.*)$")
_SHELLS = frozenset({"sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh"})
_SHELL_VALUES = frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file"})
_LOADERS = re.compile(r"^(?:ld-(?:linux|musl).*|ld\.so.*|qemu-[a-z0-9_]+(?:-static)?|valgrind|box64|busybox)$")
_LOADER_VALUES = frozenset({"--library-path", "--preload", "--argv0", "-L", "-cpu"})
_RUNNERS = frozenset({"cProfile", "profile", "coverage", "debugpy", "memray", "pdb", "scalene", "trace", "viztracer"})
"""Python programs that run another module or script within their own process."""
_CARRIERS = frozenset(
    {
        *("tmux", "screen", "zellij", "byobu", "script", "watch", "ssh", "sshd", "mosh-server"),
        *("sudo", "doas", "su", "runuser", "gosu", "setpriv", "setsid", "env", "nohup", "nice", "ionice", "chrt"),
        *("taskset", "numactl", "stdbuf", "unbuffer", "timeout", "time", "flock", "xargs", "parallel", "make", "just"),
        *(
            "tini",
            "dumb-init",
            "docker-init",
            "catatonit",
            "supervisord",
            "s6-supervise",
            "s6-svscan",
            "runsv",
            "runit",
        ),
        *(
            "systemd-run",
            "uv",
            "uvx",
            "poetry",
            "conda",
            "mamba",
            "micromamba",
            "pixi",
            "pipenv",
            "hatch",
            "nsys",
            "ncu",
        ),
        *("docker", "podman", "nerdctl", "kubectl", "strace", "ltrace", "gdb", "perf", "unshare", "nsenter", "chroot"),
    }
)
_LAUNCHERS = frozenset(
    {
        *("mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun", "orted", "prted", "hydra_pmi_proxy"),
        *("srun", "slurmstepd", "torchrun", "accelerate", "deepspeed", "raylet"),
    }
)
_LAUNCHER_MODULES = frozenset({"torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedProgram:
    """What a process executes. `paths`: its program or script, as it was called and as the kernel resolved it."""

    paths: tuple[str, ...] = ()
    module: str | None = None
    arguments: tuple[str, ...] = ()
    title: str = ""
    """The first word, with which a process may name itself."""

    @property
    def command(self) -> str | None:
        """The first argument that is no option: `serve` of `vllm serve m`."""
        return next((word for word in self.arguments if not word.startswith("-")), None)


NOTHING = ExecutedProgram()


def executed_program(argv: Sequence[str], resolved: str = "") -> ExecutedProgram:
    """What the process with this argument vector runs. `resolved`: the target of /proc/PID/exe, empty if unknown."""
    words, title = list(argv), argv[0] if argv else ""
    for _ in range(NESTED_MAX):
        if not words:
            break
        name = program_name(words[0])
        if _PYTHON.match(name):
            return replace(_python(words[1:]), title=title)
        if name in _SHELLS:
            return replace(_shell(words[1:]), title=title)
        if not _LOADERS.match(name):
            # The interpreter of a renamed script is no program of its own.
            is_interpreter = _PYTHON.match(program_name(resolved)) or program_name(resolved) in _SHELLS
            paths = dict.fromkeys((words[0], "" if is_interpreter else resolved))
            return ExecutedProgram(paths=tuple(path for path in paths if path), arguments=tuple(words[1:]), title=title)
        words, resolved = _after_options(words[1:], _LOADER_VALUES), ""
    return replace(NOTHING, title=title)


def program_name(path: str) -> str:
    """A program's name without its folder, the dash of a login shell, and what Nix and package tools add."""
    name = path.rpartition("/")[2].removesuffix(" (deleted)").partition(": ")[0].removesuffix(":")
    name = name.removeprefix("-")
    if name.startswith(".") and name.endswith("-wrapped"):
        name = name[1:].removesuffix("-wrapped")
    for ending in (".exe", ".pex", ".pyz"):
        name = name.removesuffix(ending)
    return name


def carries_others(argv: Sequence[str]) -> bool:
    """Whether this process only starts others: a shell, a terminal multiplexer, a supervisor, sudo, ..."""
    if not argv:
        return False
    run = executed_program(argv)
    names = {program_name(path) for path in run.paths} | {program_name(argv[0]), run.module or ""}
    return not names.isdisjoint(_SHELLS | _CARRIERS)


def launches_ranks(argv: Sequence[str]) -> bool:
    """Whether the children of this process may be ranks of one program: mpirun, torchrun, Ray's node manager, ..."""
    run = executed_program(argv)
    return run.module in _LAUNCHER_MODULES or any(program_name(path) in _LAUNCHERS for path in run.paths)


def embeds(argv: Sequence[str]) -> bool:
    """Whether this is a Python program that may run a server's engine as a library, and starts nothing else."""
    if not argv or not _PYTHON.match(program_name(argv[0])):
        return False
    run = executed_program(argv)
    return bool(run.paths or run.module) and not carries_others(argv) and not launches_ranks(argv)


def _python(words: list[str]) -> ExecutedProgram:
    i = 0
    while i < len(words):
        word = words[i]
        if match := _PYTHON_OPTION.match(word):
            value, after = (match["value"], i + 1) if match["value"] else ("".join(words[i + 1 : i + 2]), i + 2)
            if match["letter"] == "c":
                return NOTHING
            if match["letter"] == "m":
                return _within_runner(ExecutedProgram(module=value, arguments=tuple(words[after:])))
            i = after
        elif word.startswith("-") and word != "-":
            i += 2 if word == "--check-hash-based-pycs" else 1
        elif word == "-":
            return NOTHING
        else:
            return _within_runner(ExecutedProgram(paths=(word,), arguments=tuple(words[i + 1 :])))
    return NOTHING


def _within_runner(run: ExecutedProgram) -> ExecutedProgram:
    """What a debugger or profiler runs in its own process; any other program as it is."""
    name = run.module if run.module is not None else program_name(run.paths[0])
    if name not in _RUNNERS:
        return run
    words = run.arguments
    for i, word in enumerate(words):
        if word == "-m" and i + 1 < len(words):
            return ExecutedProgram(module=words[i + 1], arguments=words[i + 2 :])
        if not word.startswith("-") and (word.startswith("/") or word.endswith(".py")):
            return ExecutedProgram(paths=(word,), arguments=words[i + 1 :])
    return run


def _shell(words: list[str]) -> ExecutedProgram:
    """The script; nothing for a shell that takes commands from its arguments or its input."""
    i = 0
    while i < len(words) and words[i][:1] in ("-", "+"):
        word = words[i]
        if word == "--":
            i += 1
            break
        if not word.startswith("--") and "c" in word and word not in _SHELL_VALUES:
            return NOTHING
        i += 2 if word in _SHELL_VALUES else 1
    return ExecutedProgram(paths=(words[i],), arguments=tuple(words[i + 1 :])) if i < len(words) else NOTHING


def _after_options(words: list[str], with_value: frozenset[str]) -> list[str]:
    i = 0
    while i < len(words) and words[i].startswith("-"):
        i += 2 if words[i] in with_value else 1
    return words[i:]
