"""`tokenyield-collector example`: an annotated file to begin with."""

import argparse

from tokenyield_collector.examples import EXAMPLE_FILES, example_text

HELP = "print an annotated example file, to begin with"
EXAMPLE = "example prices.yaml > prices.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", choices=EXAMPLE_FILES)


def run(arguments: argparse.Namespace) -> int:
    print(example_text(arguments.file), end="")
    return 0
