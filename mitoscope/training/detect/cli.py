"""The commands of `mitoscope train` for detectors alone: `mine` and `second-stage`; and their options of `publish`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mitoscope.errors import DataError
from mitoscope.training.study.options import whole_number

if TYPE_CHECKING:
    from mitoscope.training.detect.results.members import DetectStudy

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _mine(options: argparse.Namespace) -> None:
    # Imported here, so that a command does not wait for what only another one needs.
    from mitoscope.training.detect.results.members import MEMBER
    from mitoscope.training.detect.results.mine import PAGE, mine_study, mine_tissue

    others = ("weights", "mpp") if options.study else ("state", "data")
    for name in others:
        if (value := getattr(options, name)) is not None:
            given = "--study" if options.study else "--tissue"
            raise DataError(f"--{name} cannot be combined with {given}", got=value, expected="none", remedy="remove it")
    if options.study:
        study = _read_study(options.study, options.data)
        count = mine_study(study, options.out, options.least, options.state or MEMBER)
    else:
        count = mine_tissue(options.tissue, options.out, options.weights, options.least, options.mpp)
    print(f"wrote {count:,} candidates to {options.out}; look at them in {options.out / PAGE} before you use them")


def _examine_second_stage(options: argparse.Namespace) -> None:
    from mitoscope.classify.classifier import Classifier
    from mitoscope.training.detect.results.second_stage import examine_second_stage

    study, classifier = _read_study(options.study, options.data), Classifier.load(options.weights, precision="fp32")
    print(examine_second_stage(study, classifier, options.crop_px, options.least, options.out))
    print(f"wrote {options.out}")


def _read_study(folder: Path, data: Path | None) -> "DetectStudy":
    """A finished study of detectors."""
    from mitoscope.training.study.study import read_study

    study = read_study(folder, data)
    if study.data.task != "detect":
        raise DataError(
            f"{folder} cannot be used", got=f"a study to {study.data.task}", expected="one to detect",
            remedy="name another --study",
        )  # fmt: skip
    return study


def _add_second_stage(commands: "Commands") -> None:
    """Add the command."""
    second = commands.add_parser(
        "second-stage", help="do a classifier's features judge a detector's candidates better? by size of the crops"
    )
    second.add_argument("--study", type=Path, required=True, metavar="DIR", help="a finished study of detectors")
    second.add_argument("--data", type=Path, metavar="DIR", help="its data, if they were moved")
    second.add_argument("--weights", type=Path, metavar="DIR",
                        help="the classifier (default: the one that comes with mitoscope)")  # fmt: skip
    second.add_argument("--crop-px", type=whole_number, nargs="+", default=[64, 96, 128], metavar="N",
                        help="sides of the crops at the classifier's µm per pixel (64 96 128)")  # fmt: skip
    second.add_argument("--least", type=float, default=0.1, metavar="P",
                        help="least probability of a candidate (%(default)s)")  # fmt: skip
    second.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder for the results")
    second.set_defaults(command=_examine_second_stage)


def add_detector_commands(commands: "Commands") -> None:
    """Add the commands."""
    _add_mine(commands)
    _add_second_stage(commands)


def _add_mine(commands: "Commands") -> None:
    """Add the command."""
    mine = commands.add_parser("mine", help="what detectors take for figures although it is none → hard negatives")
    source = mine.add_mutually_exclusive_group(required=True)
    source.add_argument("--study", type=Path, metavar="DIR",
                        help="a finished study: its labelled fields, each by the network that never saw its "
                             "slide")  # fmt: skip
    source.add_argument("--tissue", type=Path, metavar="DIR", help="images of tissue that holds no mitosis")
    mine.add_argument("--weights", type=Path, metavar="DIR",
                      help="with --tissue: the detector (default: the one that comes with mitoscope)")  # fmt: skip
    mine.add_argument("--mpp", type=float, metavar="X",
                      help="with --tissue: µm per pixel (default: from the files' tags)")  # fmt: skip
    mine.add_argument("--state", metavar="NAME", help="with --study: which weights, see evaluate's table")
    mine.add_argument("--data", type=Path, metavar="DIR", help="with --study: its data, if they were moved")
    mine.add_argument("--least", type=float, default=0.25, metavar="P",
                      help="least probability of a candidate (%(default)s)")  # fmt: skip
    mine.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets truth.csv and review.html")
    mine.set_defaults(command=_mine)


def add_publish_options(publish: argparse.ArgumentParser) -> None:
    """Add what only a detector's study takes."""
    publish.add_argument("--whole", action="store_true",
                         help="of a detector's study: only the network of all folds (run --whole)")  # fmt: skip
    publish.add_argument("--members", type=whole_number, nargs="+", default=[], metavar="FOLD",
                         help="of a detector's study: only the members of these folds, for speed")  # fmt: skip
    publish.add_argument("--state", metavar="NAME",
                         help="of a detector's study: which weights, such as raw; see evaluate's table")  # fmt: skip
