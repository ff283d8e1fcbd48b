"""The command line of `mitoscope`: arguments in, one clear line out when something is wrong."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mitoscope.command import run_command
from mitoscope.errors import DataError

if TYPE_CHECKING:
    from mitoscope.scoring.labels import LabelSource


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, another number with one line on stderr otherwise."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(given[:1] == ["train"]).parse_args(given)
    return run_command(lambda: options.command(options), "train" if given[:1] == ["train"] else "")


def _classify(options: argparse.Namespace) -> int:
    from mitoscope.classify.predict import (
        predict,  # here and below: a command does not wait for what another one imports
    )

    return predict(
        options.crops,
        options.out,
        weights=options.weights,
        device=options.device,
        precision=options.precision,
        shard=options.shard,
        batch_size=options.batch_size,
        strict=options.strict,
    )


def _merge(options: argparse.Namespace) -> int:
    from mitoscope.classify.shards import merge

    return merge(options.shards, options.out)


def _evaluate(options: argparse.Namespace) -> None:
    from mitoscope.scoring.evaluate import evaluate, evaluate_platform

    given, needed, unused = (
        ("--predictions-json", "--ground-truth", ("--labels", "--threshold"))
        if options.predictions_json
        else ("--predictions", "--labels", ("--ground-truth",))
    )
    for name in unused:
        value = getattr(options, name[2:].replace("-", "_"))
        if value is not None:
            raise DataError(f"{name} cannot be combined with {given}", got=value, expected="none", remedy="remove it")
    if getattr(options, needed[2:].replace("-", "_")) is None:
        raise DataError(f"{given} needs {needed}", got="none", expected=needed, remedy=f"add {needed}")
    if options.predictions_json:
        print(evaluate_platform(options.predictions_json, options.ground_truth, options.out, options.seed))
    else:
        print(evaluate(options.predictions, options.labels, options.out, options.threshold, options.seed))
    print(f"wrote {options.out}")


def _compare(options: argparse.Namespace) -> None:
    from mitoscope.scoring.metrics.paired import compare

    first, second = options.predictions
    print(compare(first, second, options.labels, options.out, options.seed))
    print(f"wrote {options.out}")


def _report(options: argparse.Namespace) -> None:
    from mitoscope.scoring.report.build import report

    report(
        options.predictions,
        options.crops,
        options.out,
        labels=options.labels,
        weights=options.weights,
        device=options.device,
        saliency=options.saliency,
    )
    print(f"wrote {options.out}")


def _check(options: argparse.Namespace) -> int:
    from mitoscope.scoring.check import check

    return check(
        options.output_json,
        options.stack,
        weights=options.weights,
        expected=options.expected,
        tolerance=options.tolerance,
        class_margin=options.class_margin,
    )


def _stress(options: argparse.Namespace) -> None:
    from mitoscope.scoring.stress import stress

    print(stress(options.crops, options.out, weights=options.weights, device=options.device, labels=options.labels))
    print(f"wrote {options.out}")


def _labels(text: str) -> "LabelSource":
    """A table's path, or the word ``folders``."""
    from mitoscope.scoring.labels import parse_labels

    return parse_labels(text)


def _shard(text: str) -> tuple[int, int]:
    """``i/N``, counted from 1."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected i/N with i from 1 to N, such as 2/8")
    return int(number), int(count)


def _positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number, 1 or more")
    return int(text)


def _parser(with_training: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mitoscope", description="Which mitotic figures are atypical?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="public data sets → a weights bundle", add_help=with_training)
    if with_training:  # a container runs commands, but never imports training
        from mitoscope.training.cli import add_commands

        add_commands(train)

    classify = commands.add_parser("classify", help="crops → predictions.csv")
    classify.add_argument("--shard", type=_shard, default=(1, 1), metavar="i/N", help="the i-th of N parts alone")
    classify.add_argument("--batch-size", type=_positive, default=256, metavar="N",
                         help="crops held in memory at once; changes no figure (%(default)s)")  # fmt: skip
    classify.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto",
                         help="auto: fp32, or a coarser one that the bundle says is harmless")  # fmt: skip
    classify.add_argument("--strict", action=argparse.BooleanOptionalAction, default=True,
                         help="write nothing when a crop cannot be read (the default)")  # fmt: skip
    classify.set_defaults(command=_classify)

    merge = commands.add_parser("merge", help="the shards of one prediction → one predictions.csv")
    merge.add_argument("shards", type=Path, nargs="+", metavar="CSV", help="all of them, in any order")
    merge.set_defaults(command=_merge)

    evaluate = commands.add_parser("evaluate", help="predictions and labels → metrics.json, figures and pictures")
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument("--predictions", type=Path, metavar="CSV", help="written by predict; needs --labels")
    what.add_argument("--predictions-json", type=Path, metavar="JSON", help="the platform's; needs --ground-truth")
    evaluate.add_argument("--ground-truth", type=Path, metavar="JSON", help="the platform's ground_truth.json")
    evaluate.add_argument(
        "--threshold", type=float, metavar="T", help="judge at this one, not by the classes in the file"
    )
    evaluate.set_defaults(command=_evaluate)

    compare = commands.add_parser(
        "compare", help="two predictions of the same crops: which is better, and is it chance"
    )
    compare.add_argument("predictions", type=Path, nargs=2, metavar="CSV", help="two, each written by predict")
    compare.set_defaults(command=_compare)

    report = commands.add_parser("report", help="one HTML file with figures, plots and every crop")
    report.add_argument("--predictions", type=Path, required=True, metavar="CSV", help="written by predict")
    report.add_argument("--saliency", action=argparse.BooleanOptionalAction, default=True,
                        help="what the networks looked at, for every crop (the slowest part)")  # fmt: skip
    report.set_defaults(command=_report)

    check = commands.add_parser("check", help="the container's JSON against the platform's demands")
    check.add_argument("output_json", type=Path, metavar="OUTPUT_JSON")
    check.add_argument("--stack", type=Path, required=True, metavar="FILE", help="what was scored: TIFF or MHA")
    check.add_argument("--expected", type=Path, metavar="JSON", help="the values that should have come out")
    check.add_argument("--tolerance", type=float, default=1e-4, metavar="D", help="of a value (%(default)s)")
    check.add_argument("--class-margin", type=float, default=0.0, metavar="D",
                       help="an expected value this near to the threshold may change class (%(default)s)")  # fmt: skip
    check.set_defaults(command=_check)

    stress = commands.add_parser("stress", help="how far the probabilities move when the crops are changed")
    stress.set_defaults(command=_stress)

    for command in (classify, report, stress):
        command.add_argument("--crops", type=Path, nargs="+", required=True, metavar="PATH",
                             help="folders of crops, stacks, or an index CSV with image_id and path")  # fmt: skip
        command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if any")
    for command in (classify, report, check, stress):
        command.add_argument(
            "--weights",
            type=Path,
            metavar="DIR",
            help="a bundle's folder (default: the weights that come with mitoscope)",
        )
    for command in (evaluate, compare, report, stress):
        command.add_argument("--labels", type=_labels, metavar="CSV|folders", required=command is compare,
                             help="labels.csv; or the word folders: crops in Atypical/ and Normal/")  # fmt: skip
    for command in (evaluate, compare):
        command.add_argument("--seed", type=int, default=0, help="of the bootstrap (%(default)s)")
    for command in (classify, merge, evaluate, compare, report, stress):
        is_file = command in (classify, merge, report)
        command.add_argument("--out", type=Path, required=True, metavar="FILE" if is_file else "DIR",
                             help="the file to write" if is_file else "the folder for the results")  # fmt: skip
    return parser
