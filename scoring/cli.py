"""The command line of python -m scoring: arguments in, one clear line out when something is wrong."""

import argparse
from collections.abc import Callable

from scoring.command import run_command

REQUIREMENTS = "requirements.txt"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, another number with one line on stderr otherwise."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.command
    return run_command(lambda: command(options), REQUIREMENTS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scoring", description="The leaderboard offline.")
    parser.add_subparsers(required=True, metavar="COMMAND")
    return parser
