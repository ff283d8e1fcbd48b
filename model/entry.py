"""The exec entry: the command line in, one case, the log on stdout, the reason of a failure as stderr's last line.

That last line is all that Grand Challenge shows of a failure. On a success stderr stays empty, unless stdout is lost;
warnings go to stdout. SIGTERM and Ctrl-C end a case with 1, or with 0 where its result exists.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mitoscope.stopwatch import Stopwatch
from model.case import Model, describe_model, find_results, load_model, remove_partials, run_case
from model.log import attempt, log
from model.signals import say


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The options of both entries, this one and serve.py; the defaults are the submission."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--input", type=Path, default=Path("/input"), metavar="DIR", help="the case (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("/output"), metavar="DIR", help="result (%(default)s)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="a bundle; default: attached, baked, checkout")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if any")
    precisions = ("auto", "fp32", "fp16", "bf16")
    parser.add_argument(
        "--precision",
        choices=precisions,
        default="auto",
        help="auto: fp32, or a coarser one that the bundle says is harmless",
    )
    parser.add_argument("--table", action="store_true", help="print page, class, p_atypical, spread of the members")
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return make_parser("inference.py", "Score one case of MIDOG 2025.").parse_args(argv)


def run(arguments: argparse.Namespace, model: Model | None = None) -> None:
    """Score the case that the command line names and log it on stdout.

    Args:
        arguments: Of `make_parser`.
        model: The networks. None: they are loaded, once the case is known to be good.

    Raises:
        MitoscopeError: As `run_case` and `load_model` do.
    """
    watch = Stopwatch()

    def get_model() -> Model:
        loaded = model or load_model(arguments.weights, arguments.device, arguments.precision, watch)
        log(*describe_model(loaded))
        return loaded

    case = run_case(arguments.input, arguments.output, get_model, watch)
    log(*case.describe(), f"seconds   {watch}")
    if arguments.table:
        log("", *case.tabulate())


def main(arguments: argparse.Namespace) -> int:
    """Run one case: 0 with stderr empty, or 1 with the reason as the last line of stderr."""
    return 1 if attempt(lambda: run(arguments)) else 0


def make_stopper(output_dir: Path) -> Callable[[], int]:
    """What a signal does from now on: it ends the case, with 0 if its result exists."""
    before = _identify(output_dir)

    def stop() -> int:
        if _identify(output_dir) != before:
            say(sys.stdout, "warning   stopped by a signal after the result was written: the log may end here")
            return 0
        remove_partials(output_dir)
        say(sys.stderr, "error: stopped by a signal before the case was done: got SIGTERM or Ctrl-C; run it again")
        return 1

    return stop


def _identify(output_dir: Path) -> list[int | None]:
    """What distinguishes the results that exist from those that replace them."""
    return [_inode(path) for path in find_results(output_dir)]


def _inode(path: Path) -> int | None:
    """None where there is no file."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
