"""`release`: the agent that runs lets go of the GPUs for a while, so that one can be reset."""

import argparse
import re

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show

HELP = "let go of the GPUs for a while, so that one can be reset"
EXAMPLE = "release --for 5m --config agent.yaml"
ANSWER_S_MAX = 30.0
"""How long an agent may take: one poll, or one that hangs in the driver."""
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "agent/agent.yaml")
    parser.add_argument("--for", dest="for_s", type=_seconds, default="5m", help="as 90s or 5m; at most 1h; default 5m")
    parser.add_argument("--end", action="store_true", help="take the GPUs up again now")


def run(arguments: argparse.Namespace) -> int:
    """0 once the agent has let go; 1 where none answers; 2 where its folder cannot be written. Raises
    `SettingsError`."""
    import time
    from pathlib import Path

    from tokenyield_agent.config import settings_of
    from tokenyield_agent.gpu.release import ReleaseRequest
    from tokenyield_agent.host.clock import HostClock

    def now_s() -> float:
        return HostClock().wall_ns() / 1e9

    settings = settings_of(arguments)
    request, asked_s = ReleaseRequest(Path(settings.state_dir)), now_s()
    until_s = 0.0 if arguments.end else asked_s + arguments.for_s
    try:
        request.make(until_s)
    except OSError as error:
        show(f"state_dir: expected a folder to write to, found {error}; run as root or as the agent", is_error=True)
        return 2
    while request.pending(now_s()) is not None:
        if now_s() > asked_s + ANSWER_S_MAX:
            request.remove()
            expected = f"state_dir: expected an agent that runs with {settings.state_dir}, found none that answers"
            show(f"{expected}; start it, or give its --config", is_error=True)
            return 1
        time.sleep(0.05)
    if arguments.end:
        print("the GPUs are read again")
    else:
        print(f"the GPUs are let go until {time.strftime('%H:%M:%S', time.localtime(until_s))}")
    return 0


def _seconds(text: str) -> int:
    from tokenyield_agent.gpu.release import RELEASE_S_MAX

    match = re.fullmatch(r"(\d{1,5})([smh]?)", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= RELEASE_S_MAX:
        raise argparse.ArgumentTypeError(f"expected 1s to 1h, as 90s or 5m, found '{text}'; correct it")
    return seconds
