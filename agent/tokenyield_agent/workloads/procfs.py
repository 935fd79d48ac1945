"""The thin reader of /proc that binding and discovery need: processes, their parents, places, logs and sockets.

Only processes that hold a GPU, their ancestors and a server's children are looked at: a handful on any host, however
many run there. Parents are remembered for `REFRESH_S`, because a server's workers do not change them from one second
to the next. Of a process that is gone, or may not be read, nothing is known.
"""

import os
import socket
import stat
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from tokenyield_agent.workloads.askable import may_be_asked
from tokenyield_agent.workloads.process_location import Process, place_of
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import NAME_CHARS_MAX

ANCESTORS_MAX = 32
CHILDREN_MAX = 256
DESCRIPTORS_MAX = 4096
SOCKET_LINES_MAX = 20_000
PIPE_LEVELS_MAX = 3
"""Parents whose children are searched for the reader of a pipe."""
REFRESH_S = 10.0
ENVIRONMENT_BYTES_MAX = 1 << 20
"""Read of one process's environment: modules of a cluster fill 100 kB, the kernel takes up to 6 MB."""
VALUE_CHARS_MAX = 1024
"""Of one variable."""
ADDRESSES_MAX = 4
"""Of one process in another network namespace."""
_LISTEN = b"0A"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOutput:
    """Where what a process prints goes, as paths that can be opened from here. A line is in one of `files`."""

    files: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    """Files beside which the lines go on to where no file is: a terminal, the container's log."""
    is_whole: bool = False
    """All that it prints goes to `files`."""
    owners: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Of these files -> the uid that owns it."""


class Procfs:
    """Reads under `root` (/proc, or a mounted host's)."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root
        self._ancestors: dict[int, tuple[int, ...]] = {}
        self._expires_s = 0.0
        self._boot_s: float | None = None

    def ancestors_of(self, pids: Iterable[int], now_mono_s: float) -> dict[int, tuple[int, ...]]:
        """pid -> its parents, nearest first."""
        if now_mono_s >= self._expires_s:
            self._ancestors = {}
            self._expires_s = now_mono_s + REFRESH_S
        for pid in pids:
            if pid not in self._ancestors:
                self._ancestors[pid] = self._walk(pid)
        return self._ancestors

    def process(self, pid: int) -> Process | None:
        fields = self.stat_fields(pid)
        if fields is None:
            return None
        return Process(
            pid=pid,
            parent=int(fields[1]),
            started_s=self.boot_time_s() + int(fields[19]) / os.sysconf("SC_CLK_TCK"),
            argv=self.argv_of(pid),
            name=fitting_name(self._text(pid, "comm").strip(), NAME_CHARS_MAX),
            place=place_of(self._text(pid, "cgroup")),
            executable=self._executable(pid),
        )

    def uid_of(self, pid: int) -> int | None:
        """The user who started it: the real uid, which no program that runs as another user by its file's owner has."""
        for line in self._text(pid, "status").splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[1])
        return None

    def environment_of(self, pid: int, names: Collection[str]) -> dict[str, str]:
        """The variables of these names, as the process was started with; of a name that is there twice the first, as
        getenv has it. A process can change them: they are what it says of itself."""
        values: dict[str, str] = {}
        for part in self._text(pid, "environ", bytes_max=ENVIRONMENT_BYTES_MAX).split("\0"):
            name, is_variable, value = part.partition("=")
            if is_variable and name in names:
                values.setdefault(name, value[:VALUE_CHARS_MAX])
        return values

    def parent_of(self, pid: int) -> int | None:
        fields = self.stat_fields(pid)
        return None if fields is None else int(fields[1])

    def argv_of(self, pid: int) -> tuple[str, ...]:
        """The words of the command line; none for a kernel thread or a process that is gone. Where a process gave
        itself a title, that is one word, and what was left of its arguments is padding."""
        text = self._text(pid, "cmdline").rstrip("\0 ")
        return tuple(text.split("\0")) if text else ()

    def _executable(self, pid: int) -> str:
        try:
            return os.readlink(f"{self.root}/{pid}/exe").removesuffix(" (deleted)")
        except OSError:
            return ""

    def descendants_of(self, pid: int) -> list[int]:
        """The processes below `pid`, without it."""
        descendants: list[int] = []
        waiting = [pid]
        while waiting and len(descendants) < CHILDREN_MAX:
            children = self._children(waiting.pop())
            descendants += children
            waiting += children
        return descendants[:CHILDREN_MAX]

    def _children(self, pid: int) -> set[int]:
        try:
            threads = os.listdir(f"{self.root}/{pid}/task")
        except OSError:
            return set()
        return {
            int(child)
            for thread in threads[:CHILDREN_MAX]
            for child in self._text(pid, f"task/{thread}/children").split()
        }

    def writes_to(self, pid: int, files: Set[tuple[int, int]]) -> bool:
        """Whether `pid` has one of `files` (device, inode) open for writing, itself or through a pipe to a sibling:
        as in `vllm serve | tee vllm.log`."""
        if not files:
            return False
        return self._has_open(pid, files) or any(
            self._has_open(reader, files) for reader in self._pipe_readers(pid, "1", "2")
        )

    def _pipe_readers(self, pid: int, *descriptors: str) -> list[int]:
        """Siblings, or those of a parent, as in `(A & B) | tee log`, whose standard input is what `pid` writes to."""
        pipes = {pipe for descriptor in descriptors if (pipe := self._pipe(pid, descriptor))}
        parent = self.parent_of(pid) if pipes else None
        for _ in range(PIPE_LEVELS_MAX):
            if parent is None or parent < 1:
                break
            children = self._children(parent)
            if readers := [child for child in children if child != pid and self._pipe(child, "0") in pipes]:
                return readers
            parent = self.parent_of(parent)
        return []

    def _pipe(self, pid: int, descriptor: str) -> str | None:
        try:
            target = os.readlink(f"{self.root}/{pid}/fd/{descriptor}")
        except OSError:
            return None
        return target if target.startswith("pipe:") else None

    def _has_open(self, pid: int, files: Set[tuple[int, int]]) -> bool:
        for descriptor in self._descriptors(pid):
            try:
                status = os.stat(f"{self.root}/{pid}/fd/{descriptor}")
                if (status.st_dev, status.st_ino) in files and self._writable(pid, descriptor):
                    return True
            except OSError:
                continue
        return False

    def output_of(self, pid: int) -> ProcessOutput:
        """The regular files that standard output and error go to, themselves or through a pipe, as in
        `vllm serve | tee vllm.log`."""
        files: dict[str, None] = {}
        copies: dict[str, None] = {}
        is_whole = True
        for descriptor in ("1", "2"):
            readers = self._pipe_readers(pid, descriptor)
            ends = [file for end in [(pid, descriptor), *((r, "1") for r in readers)] if (file := self._written(*end))]
            files.update(dict.fromkeys(ends))
            is_whole = is_whole and bool(ends)
            for reader in readers if not ends else ():
                beside = (self._written(reader, other) for other in self._descriptors(reader) if other != "2")
                copies.update(dict.fromkeys([file for file in beside if file][:1]))
        return ProcessOutput(
            files=tuple(files),
            copies=tuple(copies),
            is_whole=is_whole,
            owners={path: owner for path in (*files, *copies) if (owner := _owner_of(path)) is not None},
        )

    def _written(self, pid: int, descriptor: str) -> str | None:
        """The path of a regular file, here or, for a process in a container, below its own root."""
        link = f"{self.root}/{pid}/fd/{descriptor}"
        try:
            path, there = os.readlink(link), os.stat(link)
            if not stat.S_ISREG(there.st_mode) or not self._writable(pid, descriptor):
                return None
        except OSError:
            return None
        for candidate in (path, f"{self.root}/{pid}/root{path}"):
            try:
                here = os.stat(candidate)
            except OSError:
                continue
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return candidate
        return None

    def output_is_terminal(self, pid: int) -> bool:
        try:
            return os.readlink(f"{self.root}/{pid}/fd/1").startswith(("/dev/pts/", "/dev/tty"))
        except OSError:
            return False

    def listening(self, pids: Iterable[int]) -> dict[str, str | None]:
        """`host:port` of the TCP sockets on which any of `pids` listens, and that may be asked from here, lowest port
        first -> the folder of /proc that shows the connections of its network namespace; None for this one."""
        addresses: dict[tuple[int, str], str | None] = {}
        for pid in pids:
            inodes = set(self._socket_inodes(pid))
            if not inodes:
                continue
            elsewhere = self._network_of(pid) != self._network_of(None)
            for host, port in self._sockets(pid, inodes):
                for reachable in self._reachable(pid, host, elsewhere):
                    addresses.setdefault((port, reachable), f"{self.root}/{pid}/net" if elsewhere else None)
        return {
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}": network
            for (port, host), network in sorted(addresses.items(), key=lambda item: item[0])
        }

    def _reachable(self, pid: int, host: str, elsewhere: bool) -> list[str]:
        """At which addresses a socket bound to `host` is reached from this network namespace, of those that may be
        asked: the agent's own ones, or the process's."""
        is_any = host in ("0.0.0.0", "::")  # noqa: S104
        if elsewhere:
            own = self._own_addresses(pid)
            hosts = own if is_any else [host] if ":" in host or host in own else []
        else:
            hosts = ["127.0.0.1"] if is_any else [host]
        return [one for one in hosts if may_be_asked(one, is_elsewhere=elsewhere)][:ADDRESSES_MAX]

    def _sockets(self, pid: int, inodes: Set[int]) -> Iterator[tuple[str, int]]:
        for table in ("tcp", "tcp6"):
            try:
                with open(f"{self.root}/{pid}/net/{table}", "rb") as file:
                    lines = file.readlines(SOCKET_LINES_MAX * 150)
            except OSError:
                continue
            for line in lines[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTEN and int(fields[9]) in inodes:
                    host, _, port = fields[1].partition(b":")
                    yield _address(host.decode()), int(port, 16)

    def _socket_inodes(self, pid: int) -> Iterator[int]:
        for descriptor in self._descriptors(pid):
            try:
                target = os.readlink(f"{self.root}/{pid}/fd/{descriptor}")
            except OSError:
                continue
            if target.startswith("socket:["):
                yield int(target[8:-1])

    def _own_addresses(self, pid: int) -> list[str]:
        """IPv4 addresses of the network namespace of `pid`, from its routing table (`/32 host LOCAL` in fib_trie)."""
        addresses, last = [], ""
        for line in self._text(pid, "net/fib_trie").splitlines():
            text = line.strip()
            if text.startswith("|-- "):
                last = text[4:]
            elif text == "/32 host LOCAL" and not last.startswith("127.") and last not in addresses:
                addresses.append(last)
        return addresses

    def _network_of(self, pid: int | None) -> str:
        """`None`: the agent's own, whichever host's /proc is read."""
        for path in [f"{self.root}/{pid}"] if pid is not None else ["/proc/self", f"{self.root}/self"]:
            try:
                return os.readlink(f"{path}/ns/net")
            except OSError:
                continue
        return ""

    def _walk(self, pid: int) -> tuple[int, ...]:
        chain: list[int] = []
        parent = self.parent_of(pid)
        while parent is not None and parent > 0 and len(chain) < ANCESTORS_MAX:
            chain.append(parent)
            parent = self.parent_of(parent)
        return tuple(chain)

    def boot_time_s(self) -> float:
        """Unix time; 0 where it is unknown."""
        if self._boot_s is None:
            self._boot_s = 0.0
            for line in self._text("stat").splitlines():
                if line.startswith("btime "):
                    self._boot_s = float(line.split()[1])
        return self._boot_s

    def stat_fields(self, pid: int) -> list[str] | None:
        """The fields of /proc/PID/stat from the state on: [0] state, [1] parent, [11] and [12] user and
        system time and [19] start in clock ticks, [20] virtual bytes, [21] resident pages."""
        # The command may hold spaces and parentheses; what follows the last ')' does not.
        fields = self._text(pid, "stat").rpartition(")")[2].split()
        return fields if len(fields) > 19 and fields[1].lstrip("-").isdigit() else None

    def _text(self, *parts: int | str, bytes_max: int = 1 << 16) -> str:
        # Without a file object, which takes four more system calls: this is read of every process that holds a GPU.
        try:
            descriptor = os.open("/".join((self.root, *map(str, parts))), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return _bytes_of(descriptor, bytes_max).decode("utf-8", "replace")
        except OSError:
            return ""
        finally:
            os.close(descriptor)

    def _descriptors(self, pid: int) -> list[str]:
        try:
            return os.listdir(f"{self.root}/{pid}/fd")[:DESCRIPTORS_MAX]
        except OSError:
            return []

    def _writable(self, pid: int, descriptor: str) -> bool:
        with open(f"{self.root}/{pid}/fdinfo/{descriptor}", "rb") as file:
            for line in file:
                if line.startswith(b"flags:"):
                    return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
        return False


def _bytes_of(descriptor: int, bytes_max: int) -> bytes:
    """The kernel gives a file of /proc page by page. Raises OSError."""
    parts, left = [], bytes_max
    while left and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _owner_of(path: str) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


def _address(text: str) -> str:
    """An address of /proc/net/tcp: 32-bit words in the host's byte order."""
    words = [struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8)]
    if len(words) == 1:
        return socket.inet_ntop(socket.AF_INET, words[0])
    full = b"".join(words)
    if full.startswith(b"\0" * 10 + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, full[12:])
    return socket.inet_ntop(socket.AF_INET6, full)
