"""The command `mitoscope`: reads the arguments, calls the library, prints one clear line when something is wrong."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitoscope.command import PrintVersion, escape_unencodable, run_command
from mitoscope.errors import DataError

if TYPE_CHECKING:
    from mitoscope.scoring.labels import LabelSource

Commands = Any  # add_subparsers returns a private type


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: As on the command line, without the program's name; None: those of this process.

    Returns:
        The exit code: 0 on success, another number with one line on stderr otherwise.
    """
    if arguments is None:
        escape_unencodable()
        arguments = sys.argv[1:]
    is_training = arguments[:1] == ["train"]
    options = build_parser(with_training=is_training).parse_args(arguments)
    return run_command(lambda: options.command(options), "train" if is_training else "")


def build_parser(*, with_training: bool) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        with_training: Add the commands of `train`, too. They import packages that a container does not have.
    """
    parser = argparse.ArgumentParser(
        prog="mitoscope",
        description="Find atypical mitotic figures in histology, and measure how well.",
        epilog="Run 'mitoscope COMMAND --help' for the options of a command. Not for clinical use.",
    )
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for add in (_add_classify, _add_merge, _add_evaluate, _add_compare, _add_report, _add_stress, _add_check):
        add(commands)
    train = commands.add_parser(
        "train", add_help=with_training, help="train a classifier from public data sets (needs mitoscope[train])"
    )
    if with_training:
        from mitoscope.training.cli import add_commands

        add_commands(train)
    return parser


# One function a command: its options, and what it calls. Each imports what it needs when it runs.


def _add_classify(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> int:
        from mitoscope.classify.predict import predict

        names = ("weights", "base", "device", "precision", "shard", "batch_size", "strict")
        return predict(options.crops, options.out, **_take(options, *names))

    command = _add(commands, "classify", run, "classify crops: writes P(atypical) and a class for each crop to a CSV",
                   "Classify crops of mitotic figures as normal or atypical. Writes predictions.csv (image_id, "
                   "p_atypical, class, one column for each network) and a record of how it was made, "
                   "predictions.csv.json. Exit code 3: some files cannot be read.")  # fmt: skip
    _add_crops(command)
    _add_out(command, "FILE", "the CSV to write; replaced if it exists")
    _add_model(command)
    command.add_argument("--shard", type=_shard, default=(1, 1), metavar="i/N",
                         help="classify only the i-th of N parts; join them with 'mitoscope merge'")  # fmt: skip
    command.add_argument("--batch-size", type=_positive, default=256, metavar="N",
                         help="crops in memory at once; does not change the result (default: %(default)s)")  # fmt: skip
    command.add_argument("--strict", action=argparse.BooleanOptionalAction, default=True,
                         help="write nothing if a crop cannot be read; --no-strict: classify the others")  # fmt: skip


def _add_merge(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> int:
        from mitoscope.classify.shards import merge

        return merge(options.shards, options.out)

    command = _add(commands, "merge", run, "join the parts that 'classify --shard' wrote",
                   "Join the parts that 'classify --shard' wrote. The result is the same file as without "
                   "--shard.")  # fmt: skip
    command.add_argument("shards", type=Path, nargs="+", metavar="CSV", help="all parts, in any order")
    _add_out(command, "FILE", "the CSV to write; replaced if it exists")


def _add_evaluate(commands: Commands) -> None:
    command = _add(commands, "evaluate", _evaluate, "compare predictions with labels: metrics, intervals, pictures",
                   "Compare predictions with labels. Writes metrics.json (as the challenge does), figures.json (all "
                   "metrics with 95 % intervals), summary.md and pictures.")  # fmt: skip
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--predictions", type=Path, metavar="CSV", help="written by 'classify'; needs --labels")
    what.add_argument("--predictions-json", type=Path, metavar="JSON",
                      help="the challenge platform's predictions.json; needs --ground-truth")  # fmt: skip
    _add_labels(command)
    command.add_argument("--ground-truth", type=Path, metavar="JSON", help="the platform's ground_truth.json")
    command.add_argument("--threshold", type=float, metavar="T",
                         help="call a crop atypical from this P(atypical) on, instead of the classes in the "
                              "file")  # fmt: skip
    _add_seed(command)
    _add_out(command, "DIR", "the folder for the results")


def _evaluate(options: argparse.Namespace) -> None:
    from mitoscope.scoring.evaluate import evaluate, evaluate_platform
    from mitoscope.scoring.labels import parse_labels

    given, needed, unused = (
        ("--predictions-json", "--ground-truth", ("--labels", "--threshold"))
        if options.predictions_json
        else ("--predictions", "--labels", ("--ground-truth",))
    )
    values = {name: getattr(options, name[2:].replace("-", "_")) for name in (needed, *unused)}
    for name in unused:
        if values[name] is not None:
            raise DataError(
                f"{name} cannot be combined with {given}", got=values[name], expected="none", remedy="remove it"
            )
    if values[needed] is None:
        raise DataError(f"{given} needs {needed}", got="none", expected=needed, remedy="add it")
    if options.predictions_json:
        print(evaluate_platform(options.predictions_json, options.ground_truth, options.out, options.seed))
    else:
        print(evaluate(options.predictions, parse_labels(options.labels), options.out, options.threshold, options.seed))
    print(f"wrote {options.out}")


def _add_compare(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> None:
        from mitoscope.scoring.labels import parse_labels
        from mitoscope.scoring.metrics.paired import compare

        first, second = options.predictions
        print(compare(first, second, parse_labels(options.labels), options.out, options.seed))
        print(f"wrote {options.out}")

    command = _add(commands, "compare", run, "test whether one prediction is better than another",
                   "Compare two predictions of the same crops: differences in ROC AUC and balanced accuracy with "
                   "95 % intervals and p-values.")  # fmt: skip
    command.add_argument("predictions", type=Path, nargs=2, metavar="CSV", help="two files that 'classify' wrote")
    _add_labels(command, required=True)
    _add_seed(command)
    _add_out(command, "DIR", "the folder for the results")


def _add_report(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> None:
        from mitoscope.scoring.report.build import report

        more = _take(options, "weights", "base", "device", "saliency")
        report(options.predictions, options.crops, options.out, labels=_read_labels(options), **more)
        print(f"wrote {options.out}")

    command = _add(commands, "report", run, "write a web page with the metrics and every crop",
                   "Write one HTML file with metrics, plots and every crop. It needs no network.")  # fmt: skip
    command.add_argument("--predictions", type=Path, required=True, metavar="CSV", help="written by 'classify'")
    _add_crops(command)
    _add_labels(command)
    _add_out(command, "FILE", "the HTML file to write; replaced if it exists")
    _add_model(command, precision=False)
    command.add_argument("--saliency", action=argparse.BooleanOptionalAction, default=True,
                         help="show for each crop where the networks look (Grad-CAM, the slowest part)")  # fmt: skip


def _add_stress(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> None:
        from mitoscope.scoring.stress import stress

        more = _take(options, "weights", "base", "device", "precision")
        print(stress(options.crops, options.out, labels=_read_labels(options), **more))
        print(f"wrote {options.out}")

    command = _add(commands, "stress", run, "measure how much changes of the images change the result",
                   "Classify crops as they are, and with stain, blur, compression, position and rotation changed. "
                   "Writes how far the probabilities move.")  # fmt: skip
    _add_crops(command)
    _add_labels(command)
    _add_model(command)
    _add_out(command, "DIR", "the folder for the results")


def _add_check(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> int:
        from mitoscope.scoring.check import check

        more = _take(options, "weights", "expected", "tolerance", "class_margin")
        return check(options.output_json, options.stack, **more)

    command = _add(commands, "check", run, "check a container's output against the rules of the platform",
                   "Check the JSON that a container wrote against the rules of the challenge platform. Prints ok, or "
                   "one line for each fault.")  # fmt: skip
    command.add_argument("output_json", type=Path, metavar="OUTPUT_JSON", help="what the container wrote")
    command.add_argument("--stack", type=Path, required=True, metavar="FILE", help="the images: a TIFF or MHA file")
    _add_weights(command)
    command.add_argument("--expected", type=Path, metavar="JSON", help="the expected output, to compare with")
    command.add_argument("--tolerance", type=float, default=1e-4, metavar="D",
                         help="largest difference from an expected confidence (default: %(default)s)")  # fmt: skip
    command.add_argument("--class-margin", type=float, default=0.0, metavar="D",
                         help="allow another class where the expected confidence is this close to the threshold "
                              "(default: %(default)s)")  # fmt: skip


# Options that several commands share.


def _add(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int | None], summary: str, description: str
) -> argparse.ArgumentParser:
    """A command; summary is its line in the list of all commands."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(command=run)
    return parser


def _add_crops(command: argparse.ArgumentParser) -> None:
    command.add_argument("--crops", type=Path, nargs="+", required=True, metavar="PATH",
                         help="folders of crops, image files, or CSVs with the columns image_id and path")  # fmt: skip


def _add_labels(command: argparse.ArgumentParser, *, required: bool = False) -> None:
    command.add_argument("--labels", metavar="CSV|folders", required=required,
                         help="a CSV with image_id and label (and, if known, domain and case); or the word folders, if "
                              "the crops are in folders named Atypical and Normal")  # fmt: skip


def _add_model(command: argparse.ArgumentParser, *, precision: bool = True) -> None:
    """--weights, --base, --device and --precision: the networks, and where they run."""
    _add_weights(command)
    command.add_argument("--base", type=Path, metavar="FILE|DIR",
                         help="the base network, if the weights are adapters that come without it")  # fmt: skip
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                         help="auto: the GPU if there is one (default: %(default)s)")  # fmt: skip
    if precision:
        command.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto",
                             help="auto: the fastest that the weights' own measurements allow "
                                  "(default: %(default)s)")  # fmt: skip


def _add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, metavar="DIR",
                         help="the folder of the weights (default: those that come with mitoscope)")  # fmt: skip


def _add_seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="random seed of the intervals (default: %(default)s)")


def _add_out(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    command.add_argument("--out", type=Path, required=True, metavar=metavar, help=text)


def _take(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names, for a function whose arguments have the same names."""
    return {name: getattr(options, name) for name in names}


def _read_labels(options: argparse.Namespace) -> "LabelSource | None":
    """Where the labels are; None without --labels."""
    from mitoscope.scoring.labels import parse_labels

    return None if options.labels is None else parse_labels(options.labels)


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
