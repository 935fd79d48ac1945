"""`tokenyield-collector token`: a new bearer token, and the line of token_file that accepts it."""

import argparse
import sys
from pathlib import Path

HELP = "make a bearer token, and the line of token_file that accepts it"
EXAMPLE = "token --add /etc/tokenyield/tokens name=dc1 may=write cluster=dc1 'nodes=gpu-*'"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--add", type=Path, metavar="FILE", help="add the line to this token_file, and print the token alone"
    )
    parser.add_argument(
        "pairs",
        nargs="*",
        metavar="KEY=VALUE",
        help="name=, may=read|write|gateway|outcomes|spend|otlp, cluster=, nodes=, teams=, until=",
    )


def run(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.access.token_file import add_line, new_token, token_line

    token = new_token()
    try:
        line = token_line(token, arguments.pairs)
    except ValueError as error:
        print(f"token: {error}", file=sys.stderr)
        return 2
    if arguments.add is None:
        print(f"for the agent or the reader, in a file of its own:\n{token}\n\nfor the collector's token_file:\n{line}")
        return 0
    try:
        add_line(arguments.add, line)
    except OSError as error:
        print(f"token: {arguments.add}: {error.strerror}; check that it is a file that you may write", file=sys.stderr)
        return 1
    print(token)
    return 0
