"""The command line: run | check | doctor | health | tokens | record.

Exit codes: 0 done; 1 the answer is no (doctor found faults, no dialect fits); 2 the call or the settings are wrong.
"""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_agent.version import VERSION
from tokenyield_settings.command_line import CommandLine, add_settings_flags

if TYPE_CHECKING:
    from tokenyield_agent.config import Settings

_EXAMPLES = """examples:
  tokenyield-agent tokens /var/log/vllm.log           what would be counted in this log?
  tokenyield-agent doctor --config agent.yaml         what is found here, what is missing?
  tokenyield-agent check --config agent.yaml          are the settings sound? print them
  tokenyield-agent run --config agent.yaml            the daemon
  tokenyield-agent record --seconds 60 --out t.jsonl  record GPU readings as a trace
"""


def main(argv: list[str] | None = None) -> int:
    return _command_line().run(argv)


def _command_line() -> CommandLine:
    line = CommandLine(
        prog="tokenyield-agent",
        version=VERSION,
        description="Reads this host's GPUs and inference logs and ships tokens and joules to a collector.",
        examples=_EXAMPLES,
    )
    run = line.command("run", _run, "run the daemon", "run --config /etc/tokenyield/agent.yaml")
    add_settings_flags(run, "agent/agent.yaml")
    help_text = "check the settings and print the effective ones"
    add_settings_flags(line.command("check", _check, help_text, "check --config agent.yaml"), "agent/agent.yaml")
    help_text = "look at this host: GPUs, who holds them, where tokens come from, permissions"
    doctor = line.command("doctor", _doctor, help_text, "doctor --config agent.yaml")
    add_settings_flags(doctor, "agent/agent.yaml")
    doctor.add_argument("--format", choices=("text", "json"), default="text")
    help_text = "ask the agent that runs with these settings whether it is well"
    add_settings_flags(line.command("health", _health, help_text, "health --config agent.yaml"), "agent/agent.yaml")
    help_text = "read a log offline and print what would be counted"
    tokens = line.command("tokens", _tokens, help_text, "tokens vllm.log --format json")
    tokens.add_argument("file", type=Path, help="a log, plain or .gz")
    tokens.add_argument("--dialect", default="auto", help="auto (default), or one of those in docs/dialects.md")
    tokens.add_argument("--format", choices=("text", "json"), default="text")
    help_text = "record GPU readings as a trace"
    record = line.command("record", _record, help_text, "record --seconds 60 --out trace.jsonl")
    record.add_argument("--seconds", type=float, required=True, help="how long to record")
    record.add_argument("--out", type=Path, required=True, help="the trace to write")
    record.add_argument("--label", default="", help="what is recorded, in words")
    record.add_argument("--interval-ms", type=int, default=1000, help="between two readings")
    record.add_argument("--synthetic", action="store_true", help="say in the trace that the GPU was not a real one")
    return line


def _settings(arguments: argparse.Namespace) -> "Settings":
    from tokenyield_agent.config import load_settings

    return load_settings(arguments.config, os.environ, arguments.set)


def _run(arguments: argparse.Namespace) -> int:
    from tokenyield_agent.daemon import Agent
    from tokenyield_agent.errors import AgentError
    from tokenyield_settings.logs import set_up_logging

    settings = _settings(arguments)
    set_up_logging(settings.log_format, settings.log_level)
    try:
        Agent(settings, lambda: _settings(arguments)).run()
    except AgentError as error:
        logging.getLogger(__name__).error("%s", error)
        return 2
    return 0


def _check(arguments: argparse.Namespace) -> int:
    import dataclasses

    settings = _settings(arguments)
    import yaml

    effective = json.loads(json.dumps(dataclasses.asdict(settings)))
    print(yaml.safe_dump(effective, sort_keys=False), end="")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    import dataclasses

    from tokenyield_agent.commands.doctor import examine

    logging.basicConfig(level=logging.ERROR)
    report = examine(settings)
    faults = sum(finding.level == "fault" for finding in report.findings)
    if arguments.format == "json":
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return 1 if faults else 0
    for finding in report.findings:
        print(f"{finding.level:<6}{finding.about:<11}{finding.text}")
    if report.rows:
        print()
        _print_table(
            ("GPU", "model", "held by", "known by", "tokens from", "how good"),
            [(r.gpu, r.model, r.held_by, r.known_by, r.tokens, r.quality) for r in report.rows],
        )
    changes = sorted({f"{row.held_by}: {row.change}" for row in report.rows if row.change})
    if changes:
        print("\nwhat to change")
        for change in changes:
            print(f"  {change}")
    print(f"\n{faults} fault{'s' * (faults != 1)}")
    return 1 if faults else 0


def _health(arguments: argparse.Namespace) -> int:
    from tokenyield_settings.health import ask_health

    settings = _settings(arguments)
    address, is_https = settings.status_address, False
    if address is None:
        print("health: status_listen is empty, so there is nobody to ask", file=sys.stderr)
        return 2
    if settings.web_config_file:
        from tokenyield_settings.web_config import read_web_config

        is_https = read_web_config(settings.web_config_file).tls_server_config is not None
    return ask_health(address, is_https=is_https)


def _print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, tuple("-" * width for width in widths), *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _tokens(arguments: argparse.Namespace) -> int:
    import msgspec

    from tokenyield_agent.tokens.dialects.registry import UnknownDialect
    from tokenyield_agent.tokens.offline import CannotTell, read_log, why_no_tokens

    try:
        totals = read_log(arguments.file, arguments.dialect)
    except OSError as error:
        print(f"{arguments.file}: cannot be read: {error.strerror or error}", file=sys.stderr)
        return 2
    except UnknownDialect as error:
        print(f"--dialect: {error}", file=sys.stderr)
        return 2
    except CannotTell as error:
        print(error, file=sys.stderr)
        return 1
    if note := why_no_tokens(totals.dialect):
        print(f"{arguments.file}: {note}", file=sys.stderr)
    code = 1 if note else 0
    if arguments.format == "json":
        print(json.dumps(msgspec.to_builtins(totals), indent=2))
        return code
    for name, value in msgspec.to_builtins(totals).items():
        if name == "askers":
            continue
        shown = "unknown" if value is None else f"{value:,}" if isinstance(value, int) else value
        print(f"{name:<17}{shown}")
    if totals.askers:
        columns = tuple(dict.fromkeys(column for asker in totals.askers for column in asker))
        print()
        _print_table(columns, [tuple(_shown(asker.get(column)) for column in columns) for asker in totals.askers])
    return code


def _shown(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _record(arguments: argparse.Namespace) -> int:
    from tokenyield_agent.gpu.readers import HARDWARE_READERS, open_reader
    from tokenyield_agent.gpu.reading import ReaderOptions
    from tokenyield_agent.gpu.trace import encode_header, encode_line

    reader = open_reader(next(iter(HARDWARE_READERS)), ReaderOptions())
    snapshot = reader.read()
    if snapshot.problem or not snapshot.gpus:
        print(f"nothing to record: {snapshot.problem or 'the driver lists no GPU'}", file=sys.stderr)
        return 1
    models = ", ".join(sorted({gpu.model or "unknown" for gpu in snapshot.gpus}))
    label = arguments.label or f"{len(snapshot.gpus)} x {models}, {arguments.seconds:g} s"
    started_s = time.monotonic()
    with arguments.out.open("wb") as file:
        file.write(encode_header(label, real_gpu=not arguments.synthetic))
        polls = 0
        while (elapsed_s := time.monotonic() - started_s) <= arguments.seconds:
            file.write(encode_line(int(elapsed_s * 1000), reader.read()))
            polls += 1
            print(f"\r{elapsed_s:6.0f} of {arguments.seconds:g} s", end="", file=sys.stderr, flush=True)
            time.sleep(max(0.0, started_s + polls * arguments.interval_ms / 1000 - time.monotonic()))
    reader.close()
    print(f"\n{arguments.out}: {polls} polls of {label}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
