"""The exec entry: score the case that the command line names; log on stdout, errors on stderr.

Grand Challenge shows only the last line of stderr of a failed case: it is the reason. On success stderr stays empty,
unless stdout is lost; warnings go to stdout. SIGTERM and Ctrl-C end a case with 1, or with 0 if its result exists.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mitoscope.stopwatch import Stopwatch
from model.case import Handler, Model, describe_model, find_results, load_model, remove_partials, run_case
from model.log import log, run_logged
from model.signals import write_line


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Build the options of both entries, this one and serve.py; the defaults are the submission."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument(
        "--input", type=Path, default=Path("/input"), metavar="DIR", help="the case's folder (default %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("/output"), metavar="DIR", help="the result's folder (default %(default)s)"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="a bundle (default: the attached one, the image's, the checkout's)"
    )
    parser.add_argument(
        "--base", type=Path, metavar="DIR", help="the base network of a bundle of adapters that does not hold it"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one")
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "fp16", "bf16"),
        default="auto",
        help="auto: fp32, or a faster one that was measured to be harmless for the bundle",
    )
    parser.add_argument("--table", action="store_true", help="print the result as a table")
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return make_parser("inference.py", "Score one case of MIDOG 2025.").parse_args(argv)


def run(arguments: argparse.Namespace, model: Model | None = None) -> None:
    """Score the case that the command line names and log it on stdout.

    Args:
        arguments: As `make_parser` returns them.
        model: The networks. None: load them, after the case has been read.

    Raises:
        MitoscopeError: As `run_case` and `load_model` do.
    """
    watch = Stopwatch()

    def get_model(handler: Handler) -> Model:
        loaded = model or load_chosen(arguments, watch, handler)
        log(*describe_model(loaded))
        return loaded

    case = run_case(arguments.input, arguments.output, get_model, watch)
    log(*case.describe(), f"seconds   {watch}")
    if arguments.table:
        log("", *case.tabulate())


def load_chosen(arguments: argparse.Namespace, watch: Stopwatch, handler: Handler | None = None) -> Model:
    """Load the networks that the command line names, those of a handler if the case is known."""
    chosen = arguments.weights, arguments.device, arguments.precision
    return load_model(*chosen, watch, base=arguments.base, handler=handler)


def main(arguments: argparse.Namespace) -> int:
    """Run one case: 0 with stderr empty, or 1 with the reason as the last line of stderr."""
    return 1 if run_logged(lambda: run(arguments)) else 0


def make_stopper(output_dir: Path) -> Callable[[], int]:
    """Make the function that a signal calls: it returns the exit code, 0 if the case's result exists."""
    before = _identify(output_dir)

    def stop() -> int:
        if _identify(output_dir) != before:
            write_line(sys.stdout, "warning   stopped by a signal after the result was written: the log may end here")
            return 0
        remove_partials(output_dir)
        write_line(
            sys.stderr, "error: stopped by a signal before the case was done: got SIGTERM or Ctrl-C; run it again"
        )
        return 1

    return stop


def _identify(output_dir: Path) -> list[int | None]:
    """The inodes of the results; a new result has another inode than the file that it replaces."""
    return [_inode(path) for path in find_results(output_dir)]


def _inode(path: Path) -> int | None:
    """The inode of a file; None if it does not exist."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
