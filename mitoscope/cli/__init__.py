"""The command `mitoscope`: reads the arguments, calls the library, prints one clear line when something is wrong."""

import argparse
import sys

from mitoscope.cli.commands import ADDERS
from mitoscope.command import PrintVersion, end_output, escape_unencodable, run_command


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: As on the command line, without the program's name; None: those of this process.

    Returns:
        The exit code: 0 on success, another number with one line on stderr otherwise; none where stdout was closed.
    """
    if arguments is not None:
        return _run(arguments)
    escape_unencodable()
    try:
        try:
            return _run(sys.argv[1:])
        finally:  # --help ends with an exception
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        return end_output(error)


def _run(arguments: list[str]) -> int:
    """See `main`."""
    is_training = arguments[:1] == ["train"]
    options = build_parser(with_training=is_training).parse_args(arguments)
    needs_train = is_training or getattr(options, "full", False) or getattr(options, "launcher", "") == "slurm"
    extra = "train" if needs_train else "dicom" if getattr(options, "dicom_ann", False) else ""
    return run_command(lambda: options.command(options), extra)


def build_parser(*, with_training: bool) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        with_training: Add the commands of `train`, too. They import packages that a container does not have.
    """
    parser = argparse.ArgumentParser(
        prog="mitoscope",
        description="Find and count mitotic figures in histology, tell the atypical ones, and measure how well.",
        epilog="Run 'mitoscope COMMAND --help' for the options of a command. Not for clinical use.",
    )
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for add in ADDERS:
        add(commands)
    train = commands.add_parser(
        "train", add_help=with_training, help="train classifiers and detectors (needs mitoscope[train])"
    )
    if with_training:
        from mitoscope.training.cli import add_commands

        add_commands(train)
    return parser
