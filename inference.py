"""The container's entry (exec): read one case, predict, write one JSON.

Cheap failures come first: the case is read, and the output folder tried, before torch is imported and the weights
are loaded. On a failure nothing is written (an older result stays as it was), and its reason is the last line of
stderr, which is all that Grand Challenge shows. On a success stderr stays empty, unless stdout is lost; warnings go to
stdout. SIGTERM and Ctrl-C end a case with 1, or with 0 where its result is there.
"""

import argparse
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.bundle import find_bundle, read_ahead, read_bundle
from model.contract import (
    CLASS_NAMES,
    IMAGES_FOLDER,
    INPUT_SLUG,
    OUTPUT_NAME,
    Record,
    check_writable,
    encode_result,
    read_slugs,
    take_back,
    write_result,
)
from model.crops import find_stack, read_stack
from model.errors import InputError
from model.heap import keep_freed_memory
from model.log import attempt, log, take_all_letters
from model.signals import end_on_signal, say
from model.stopwatch import Stopwatch

if TYPE_CHECKING:
    from model.ensemble import Ensemble

PAGES_NAMED = 8  # of those unlike the training crops; a log's line has an end


@dataclass(frozen=True)
class Case:
    """One scored case.

    Attributes:
        stack: The file that was read.
        p_members: float64 (5, N), P(atypical) in [0, 1] by member and page.
        records: What was written, one record a page.
        outliers: For each page the names of what lies outside of the training crops (`model.stain.find_outliers`), or
            None where the bundle does not describe them. The log alone shows it.
    """

    stack: Path
    p_members: np.ndarray
    records: list[Record]
    outliers: list[list[str]] | None


def run_case(input_dir: Path, output_dir: Path, get_ensemble: Callable[[], "Ensemble"], watch: Stopwatch) -> Case:
    """Score one case: the handler for its sockets reads, predicts and writes.

    Args:
        input_dir: The case's folder, with ``inputs.json`` and ``images/``.
        output_dir: Where the result goes; made if it is missing.
        get_ensemble: Gives the members. It is called once the case is known to be good.
        watch: Takes the seconds by stage.

    Raises:
        MitosisError: Anything that outside data can cause. Nothing has then been written.
    """
    slugs = read_slugs(input_dir)
    handler = HANDLERS.get(slugs)
    if handler is None:
        raise InputError(
            "the case's sockets are unknown",
            got=str(list(slugs))[:200],
            expected=" or ".join(str(list(known)) for known in HANDLERS),
            remedy="run this algorithm through the interface that it was made for",
        )
    return handler(input_dir, output_dir, get_ensemble, watch)


def score_stack(input_dir: Path, output_dir: Path, get_ensemble: Callable[[], "Ensemble"], watch: Stopwatch) -> Case:
    """Handle a stack of crops: one record a page."""
    with watch.stage("read"):
        stack = find_stack(input_dir / IMAGES_FOLDER, root=input_dir)
        crops = read_stack(stack)  # uint8 (N, 128, 128, 3)
    check_writable(output_dir)
    ensemble = get_ensemble()
    with watch.stage("forward"):
        p_members = ensemble.predict_members(crops)  # (5, N)
    with watch.stage("compare"):
        outliers = compare_crops(crops, ensemble)
    with watch.stage("write"):
        records = encode_result(p_members.mean(axis=0), ensemble.bundle.threshold.value)
        write_result(output_dir, records)
    return Case(stack, p_members, records, outliers)


def compare_crops(crops: np.ndarray, ensemble: "Ensemble") -> list[list[str]] | None:
    """In what each of uint8 (N, 128, 128, 3) crops is unlike the training crops, where the bundle describes them."""
    from model.stain import find_outliers, measure_crops  # it imports torch

    training = ensemble.bundle.training_crops
    return None if training is None else find_outliers(measure_crops(crops), training)


HANDLERS: dict[tuple[str, ...], Callable[[Path, Path, Callable[[], "Ensemble"], Stopwatch], Case]]
HANDLERS = {(INPUT_SLUG,): score_stack}


def load_ensemble(weights: Path | None, device: str, precision: str, watch: Stopwatch) -> "Ensemble":
    """Verify the bundle, and read its members while torch is being imported; see `model.ensemble.Ensemble.load`."""
    keep_freed_memory()
    bundle = read_bundle(find_bundle(weights))
    contents = read_ahead(bundle)
    with watch.stage("imports"):
        from model.ensemble import Ensemble, choose_device, choose_precision
    with watch.stage("weights"):
        where = choose_device(device)
        return Ensemble.place(bundle, contents, where, choose_precision(precision, where, bundle))


def describe_ensemble(ensemble: "Ensemble") -> list[str]:
    """The log's lines on versions, device and bundle."""
    import torch

    versions = [f"python {platform.python_version()}", f"torch {torch.__version__} (CUDA {torch.version.cuda})"]
    versions += [f"{package} {version(package)}" for package in ("timm", "numpy", "Pillow")]
    bundle, threshold = ensemble.bundle, ensemble.bundle.threshold
    if ensemble.device.type == "cuda":
        device = f"{torch.cuda.get_device_name(ensemble.device)}, {ensemble.precision}"
    elif torch.cuda.is_available():
        device = f"CPU, {ensemble.precision} - A GPU IS THERE BUT NOT USED: --device cpu was given"
    else:
        device = f"CPU, {ensemble.precision} - NO GPU IS USED: torch sees no CUDA device; this is slower"
    return [
        f"versions  {', '.join(versions)}",
        f"device    {device}",
        f"bundle    {bundle.name} in {str(bundle.folder)!r}: {len(bundle.members)} x {bundle.architecture}, "
        f"{bundle.input.size_px} px, atypical from {threshold.value:.4f} on ({threshold.rule})",
    ]


def describe_case(case: Case, watch: Stopwatch) -> list[str]:
    """The log's lines on pages and seconds."""
    counts = Counter(record["class"] for record in case.records)
    classes = ", ".join(f"{counts[name]} {name}" for name in CLASS_NAMES)
    seconds = "  ".join(f"{stage} {spent_s:.2f}" for stage, spent_s in watch.seconds.items())
    return [
        f"pages     {len(case.records)} in {case.stack.name!r}: {classes}",
        f"unlike    {describe_outliers(case.outliers)}",
        f"seconds   {seconds}  total {watch.total_s():.2f}",
    ]


def describe_outliers(outliers: list[list[str]] | None) -> str:
    """Which pages lie outside of the training crops, and in what; the first few of them by number."""
    if outliers is None:
        return "not known: the bundle does not describe its training crops"
    unlike = [f"page {page} ({', '.join(names)})" for page, names in enumerate(outliers, start=1) if names]
    verb = "lies" if len(unlike) == 1 else "lie"
    said = f"{len(unlike)} of {len(outliers)} pages {verb} outside of the training crops"
    more = [f"and {len(unlike) - PAGES_NAMED} more"] if len(unlike) > PAGES_NAMED else []
    return f"{said}: {', '.join(unlike[:PAGES_NAMED] + more)}" if unlike else said


def tabulate(case: Case) -> list[str]:
    """One line a page; the spread is the largest member's probability less the smallest."""
    spread = np.ptp(case.p_members, axis=0)  # (N,)
    rows = [
        f"{page:4d}  {record['class']:8s}  {record['confidence']:10.4f}  {spread[page - 1]:6.4f}"
        for page, record in enumerate(case.records, start=1)
    ]
    return ["page  class     p_atypical  spread (largest - smallest of the members)", *rows]


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
        help="auto: fp16 on a GPU, else fp32, or bf16 for large networks",
    )
    parser.add_argument("--table", action="store_true", help="print page, class, p_atypical, spread of the members")
    return parser


def run(arguments: argparse.Namespace, ensemble: "Ensemble | None" = None) -> None:
    """Score the case that the command line names and log it on stdout.

    Args:
        arguments: The command line of `make_parser`.
        ensemble: The members. None: they are loaded, once the case is known to be good.

    Raises:
        MitosisError: As `run_case` and `load_ensemble` do.
    """
    watch = Stopwatch()

    def get_ensemble() -> "Ensemble":
        members = ensemble or load_ensemble(arguments.weights, arguments.device, arguments.precision, watch)
        log(*describe_ensemble(members))
        return members

    case = run_case(arguments.input, arguments.output, get_ensemble, watch)
    log(*describe_case(case, watch))
    if arguments.table:
        log("", *tabulate(case))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return make_parser("inference.py", "Score one case: normal or atypical mitoses.").parse_args(argv)


def main(arguments: argparse.Namespace) -> int:
    """Do what the command line says: 0 with stderr empty, or 1 with the reason as the last line of stderr."""
    return 1 if attempt(lambda: run(arguments)) else 0


def stopper(output_dir: Path) -> Callable[[], int]:
    """What a signal does from now on: it ends the case, with 0 if its result is there."""
    before = _identify(output_dir / OUTPUT_NAME)

    def stop() -> int:
        if _identify(output_dir / OUTPUT_NAME) != before:
            say(sys.stdout, "warning   stopped by a signal when the result was there: the log may end here")
            return 0
        take_back(output_dir)
        say(sys.stderr, "error: stopped by a signal before the case was done: got SIGTERM or Ctrl-C; run it again")
        return 1

    return stop


def _identify(path: Path) -> int | None:
    """What tells a file from the one that replaces it; None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


if __name__ == "__main__":
    take_all_letters()
    options = parse()
    end_on_signal(stopper(options.output))
    # All is written and flushed: what Python and torch would tidy up now takes them a quarter of a second.
    os._exit(main(options))
