"""The command line: run | check | doctor | tokens | record.

Exit codes: 0 done; 1 the answer is no (doctor found faults, no dialect fits); 2 the call or the settings are wrong.
Each subcommand imports only what it needs.
"""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path

from tokenyield_agent.version import VERSION

_EXAMPLES = """examples:
  tokenyield-agent tokens /var/log/vllm.log           what would be counted in this log?
  tokenyield-agent doctor --config agent.yaml         what is found here, what is missing?
  tokenyield-agent check --config agent.yaml          are the settings sound? print them
  tokenyield-agent run --config agent.yaml            the daemon
  tokenyield-agent record --seconds 60 --out t.jsonl  record GPU readings as a trace
"""


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.call(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - so that the interpreter's last flush does not complain
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tokenyield-agent",
        description="Reads this host's GPUs and inference logs and ships tokens and joules to a collector.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tokenyield-agent {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_text: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"example:\n  tokenyield-agent {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def with_settings(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--config", type=Path, help="settings as YAML, see agent/agent.yaml")
        sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override one setting")

    run = command("run", "run the daemon", "run --config /etc/tokenyield/agent.yaml")
    with_settings(run)
    run.set_defaults(call=_run)
    check = command("check", "check the settings and print the effective ones", "check --config agent.yaml")
    with_settings(check)
    check.set_defaults(call=_check)
    doctor = command("doctor", "look at this host: GPUs, servers, logs, bindings, permissions", "doctor")
    with_settings(doctor)
    doctor.add_argument("--format", choices=("text", "json"), default="text")
    doctor.set_defaults(call=_doctor)
    tokens = command("tokens", "read a log offline and print what would be counted", "tokens vllm.log --format json")
    tokens.add_argument("file", type=Path, help="a log, plain or .gz")
    tokens.add_argument("--dialect", default="auto", help="auto (default), vllm or llamacpp")
    tokens.add_argument("--format", choices=("text", "json"), default="text")
    tokens.set_defaults(call=_tokens)
    record = command("record", "record GPU readings as a trace", "record --seconds 60 --out trace.jsonl")
    record.add_argument("--seconds", type=float, required=True)
    record.add_argument("--out", type=Path, required=True)
    record.add_argument("--label", default="", help="what is recorded, in words")
    record.add_argument("--interval-ms", type=int, default=1000)
    record.add_argument("--synthetic", action="store_true", help="say in the trace that the GPU was not a real one")
    record.set_defaults(call=_record)
    return parser


def _settings(arguments: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The settings, or None after their faults were printed."""
    from tokenyield_agent.config import load_settings
    from tokenyield_settings.loader import SettingsError

    try:
        return load_settings(arguments.config, os.environ, arguments.set)
    except SettingsError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return None


def _run(arguments: argparse.Namespace) -> int:
    from tokenyield_agent.config import load_settings
    from tokenyield_agent.daemon import Agent
    from tokenyield_agent.errors import AgentError
    from tokenyield_settings.logs import set_up_logging

    settings = _settings(arguments)
    if settings is None:
        return 2
    set_up_logging(settings.log_format, settings.log_level)
    try:
        Agent(settings, lambda: load_settings(arguments.config, os.environ, arguments.set)).run()
    except AgentError as error:
        logging.getLogger(__name__).error("%s", error)
        return 2
    return 0


def _check(arguments: argparse.Namespace) -> int:
    import dataclasses

    settings = _settings(arguments)
    if settings is None:
        return 2
    import yaml

    effective = json.loads(json.dumps(dataclasses.asdict(settings)))
    print(yaml.safe_dump(effective, sort_keys=False), end="")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    if settings is None:
        return 2
    from tokenyield_agent.doctor import examine

    logging.basicConfig(level=logging.ERROR)
    findings = examine(settings)
    if arguments.format == "json":
        print(json.dumps([{"level": f.level, "about": f.about, "text": f.text} for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:<6}{finding.about:<11}{finding.text}")
        faults = sum(finding.level == "fault" for finding in findings)
        print(f"\n{faults} fault{'s' * (faults != 1)}")
    return 1 if any(finding.level == "fault" for finding in findings) else 0


def _tokens(arguments: argparse.Namespace) -> int:
    import msgspec

    from tokenyield_agent.tokens.dialects.registry import UnknownDialect
    from tokenyield_agent.tokens.offline import CannotTell, read_log

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
    if arguments.format == "json":
        print(json.dumps(msgspec.to_builtins(totals), indent=2))
        return 0
    for name, value in msgspec.to_builtins(totals).items():
        shown = "unknown" if value is None else f"{value:,}" if isinstance(value, int) else value
        print(f"{name:<16}{shown}")
    return 0


def _record(arguments: argparse.Namespace) -> int:
    from tokenyield_agent.gpu.nvml import NvmlReader
    from tokenyield_agent.gpu.trace import encode_header, encode_line

    reader = NvmlReader()
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
