"""The command line: one file of commands/ for each subcommand.

Exit codes: 0 done; 1 the answer is no (doctor has faults, no dialect fits); 2 the call or the settings are wrong.
"""

import sys

from tokenyield_agent.commands import COMMANDS
from tokenyield_agent.version import VERSION
from tokenyield_settings.command_line import CommandLine

PROG = "tokenyield-agent"


def main(argv: list[str] | None = None) -> int:
    """The exit code; `argv` is the process's own where it is None."""
    examples = "".join(f"  {PROG} {command.EXAMPLE:<40} {command.HELP}\n" for command in COMMANDS.values())
    line = CommandLine(
        prog=PROG,
        version=VERSION,
        description="Reads this host's GPUs and inference logs and ships tokens and joules to a collector.",
        examples=f"examples:\n{examples}",
    )
    for name, command in COMMANDS.items():
        line.add(name, command)
    return line.run(argv)


if __name__ == "__main__":
    sys.exit(main())
