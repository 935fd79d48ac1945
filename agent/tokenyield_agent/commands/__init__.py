"""The commands of the program, one file each."""

from tokenyield_agent.commands import check, doctor, enrol, health, record, release, run, tokens
from tokenyield_settings.command_line import Command

COMMANDS: dict[str, Command] = {
    "run": run,
    "check": check,
    "enrol": enrol,
    "doctor": doctor,
    "health": health,
    "tokens": tokens,
    "record": record,
    "release": release,
}
