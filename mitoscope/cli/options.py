"""Options that several commands share."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitoscope.errors import DataError

if TYPE_CHECKING:
    from mitoscope.scoring.labels import LabelSource

Commands = Any  # add_subparsers returns a private type


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int | None], summary: str, description: str
) -> argparse.ArgumentParser:
    """A command; summary is its line in the list of all commands."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(command=run)
    return parser


def add_crops(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    command.add_argument("--crops", type=Path, nargs="+", required=required, metavar="PATH",
                         help="folders of crops, image files, or CSVs with the columns image_id and path")  # fmt: skip


def add_labels(command: argparse.ArgumentParser) -> None:
    command.add_argument("--labels", metavar="CSV|folders",
                         help="a CSV with image_id and label (and, if known, domain and case); or the word folders, if "
                              "the crops are in folders named Atypical and Normal")  # fmt: skip


def add_truth(command: argparse.ArgumentParser) -> None:
    """--truth and --mpp: the true mitotic figures, and the scale of their images."""
    command.add_argument("--truth", type=Path, metavar="CSV",
                         help="a CSV with image, x_px, y_px and label, mitotic figure or hard negative (and, if known, "
                              "domain and case)")  # fmt: skip
    command.add_argument("--mpp", type=float, metavar="X",
                         help="µm per pixel (default: from x_um and x_px of the detections)")  # fmt: skip


def add_model(command: argparse.ArgumentParser, *, precision: bool = True) -> None:
    """--weights, --base, --device and --precision: the networks, and where they run."""
    add_weights(command)
    command.add_argument("--base", type=Path, metavar="FILE|DIR",
                         help="the base network, if the weights are adapters that come without it")  # fmt: skip
    add_device(command)
    if precision:
        add_precision(command)


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                         help="auto: the GPU if there is one (default: %(default)s)")  # fmt: skip


def add_precision(command: argparse.ArgumentParser) -> None:
    command.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto",
                         help="auto: fp32, or a faster one that the weights' own measurements allow: "
                              "fp16 on a GPU, bf16 on a CPU for large networks and slides "
                              "(default: %(default)s)")  # fmt: skip


def add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, metavar="DIR",
                         help="the folder of the weights (default: those that come with mitoscope)")  # fmt: skip


def add_seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="random seed of the intervals (default: %(default)s)")


def add_out(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    command.add_argument("--out", type=Path, required=True, metavar=metavar, help=text)


VALUES = {  # of options that another one needs
    "--labels": "and the word folders or a CSV",
    "--ground-truth": "and the platform's JSON",
    "--truth": "and a CSV",
    "--crops": "and the folder of the crops",
    "--images": "and the images or their folder",
}


def check_together(
    options: argparse.Namespace, given: str, needed: str | None = None, *, without: Sequence[str]
) -> None:
    """Refuse options that do not go together.

    Raises:
        DataError: The needed one is missing, or one that must be left out is there.
    """

    def get(name: str) -> object:
        return getattr(options, name[2:].replace("-", "_"))

    for name in without:
        if get(name) is not None:
            raise DataError(
                f"{name} cannot be combined with {given}", got=get(name), expected="none", remedy="remove it"
            )
    if needed is not None and get(needed) is None:
        raise DataError(f"{given} needs {needed}", got="none", expected=f"{needed} {VALUES[needed]}", remedy="add it")


def check_unsharded(options: argparse.Namespace) -> None:
    """Refuse --shard beside --launcher slurm, which makes parts itself; raises DataError."""
    if options.shard != (1, 1):
        got = "/".join(map(str, options.shard))
        raise DataError(
            "--shard cannot be combined with --launcher slurm", got=got, expected="one of them", remedy="remove it"
        )


def take_options(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names, for a function whose arguments have the same names."""
    return {name: getattr(options, name) for name in names}


def get_labels(options: argparse.Namespace) -> "LabelSource | None":
    """Where the labels are; None without --labels."""
    from mitoscope.scoring.labels import parse_labels

    return None if options.labels is None else parse_labels(options.labels)


def parse_shard(text: str) -> tuple[int, int]:
    """``i/N``, counted from 1."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected i/N with i from 1 to N, such as 2/8")
    return int(number), int(count)


def parse_number(text: str) -> float:
    """A number; the library checks its range."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number, such as 0.25") from None


def parse_positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number, 1 or more")
    return int(text)
