"""The commands below `mitoscope train`."""

import argparse
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mitoscope.errors import DataError

if TYPE_CHECKING:
    from mitoscope.training.study.launch import FitJob


def _prepare(options: argparse.Namespace) -> None:
    from mitoscope.training.data.counts import (
        format_counts,  # here and below: a command does not wait for what another one imports
    )
    from mitoscope.training.data.prepare import prepare
    from mitoscope.training.data.sources import READERS

    sources = [read(paths) for name, read in READERS.items() if (paths := getattr(options, name))]
    if not sources:
        raise DataError(
            "no data set is named",
            got="no path to any",
            expected="at least one",
            remedy="name one, e.g. after --ami-br; see mitoscope train prepare --help",
        )
    table = prepare(sources, options.out, options.rois, labels_only=options.labels_only)
    print(format_counts(table))
    print(f"wrote {'the labels of ' if options.labels_only else ''}{len(table):,} crops to {options.out}")


def _split(options: argparse.Namespace) -> None:
    from mitoscope.training.data.table import read_data
    from mitoscope.training.folds import split, write_folds

    folds = split(read_data(options.data), options.hold_out, options.seed)
    write_folds(options.out, folds)
    print(f"wrote {options.out}: folds of {[len(ids) for ids in folds.folds]} crops, "
          f"held out {({name: len(ids) for name, ids in folds.held_out.items()})}")  # fmt: skip


def _fit(options: argparse.Namespace) -> None:
    from mitoscope.training.fit import fit_member

    fit_member(options.data, options.folds, options.fold, options.out, options.preset, options.set)


def _run(options: argparse.Namespace) -> None:
    from mitoscope.training.study.study import Recipe, run_leave_one_out, run_study

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the members are stopped on the way out
    recipe = Recipe(options.preset, tuple(options.set), options.members)
    launch = _launcher(options)
    if options.leave_one_out:
        run_leave_one_out(options.data, options.out, recipe, options.hold_out, launch, options.leave_one_out)
    else:
        run_study(options.data, options.out, recipe, options.hold_out, launch)


def _launcher(options: argparse.Namespace) -> "Callable[[list[FitJob]], None]":
    """Where the fits run."""
    if options.launcher == "slurm":
        from mitoscope.training.config import override
        from mitoscope.training.study.slurm import run_slurm
        from mitoscope.training.study.slurm_job import Resources

        resources = override(Resources(), options.slurm, "--slurm")
        logs = options.out / "slurm"
        return partial(run_slurm, logs=logs, resources=resources, max_parallel=options.max_parallel)
    from mitoscope.training.study.launch import run_local

    if options.slurm:
        raise DataError(
            "--slurm settings have no use", got=options.slurm, expected="--launcher slurm", remedy="add that"
        )
    return partial(run_local, workers=options.max_parallel)


def _evaluate(options: argparse.Namespace) -> None:
    from mitoscope.training.evaluate import compare_studies, evaluate_run
    from mitoscope.training.study.study import read_studies, read_study

    if len(options.study) == 1:
        print(evaluate_run(read_studies(options.study[0], options.data), options.threshold_rule, options.out))
    else:
        names = [folder.resolve().name for folder in options.study]
        if len(set(names)) < len(names):
            raise DataError(
                "the studies cannot be told apart",
                got=names,
                expected="folders of different names",
                remedy="rename one",
            )
        studies = {name: read_study(folder, options.data) for name, folder in zip(names, options.study, strict=True)}
        print(compare_studies(studies, options.threshold_rule, options.out))
    print(f"wrote {options.out}")


def _publish(options: argparse.Namespace) -> None:
    from mitoscope.training.publish import publish
    from mitoscope.training.study.study import read_study

    print("\n".join(publish(read_study(options.study, options.data), options.out, options.threshold_rule)))
    print(f"wrote {options.out}")


def _whole_number(text: str) -> int:
    """An argument that is 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number, 0 or more")
    return int(text)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of `mitoscope train`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser("prepare", help="data sets → one table and one array of crops")
    prepare.add_argument("--ami-br", type=Path, nargs="+", metavar="PATH",
                         help="the folder of crops, AMI-BR.csv, and perhaps the train split's CSV")  # fmt: skip
    prepare.add_argument("--midog25", type=Path, nargs="+", metavar="PATH", help="the folder of crops, MIDOG25.csv")
    prepare.add_argument("--atnorm-br", type=Path, nargs=1, metavar="DIR", help="the folder with Atypical/ and Normal/")
    prepare.add_argument("--atnorm-md", type=Path, nargs=1, metavar="DIR", help="the folder with Atypical/ and Normal/")
    prepare.add_argument("--omg-octo", type=Path, nargs="+", metavar="PATH", help="the folder of crops, its CSV")
    prepare.add_argument("--rois", type=Path, metavar="DIR",
                         help="the slides' TIFFs, where a data set's folder of crops is not given")  # fmt: skip
    prepare.add_argument("--labels-only", action="store_true", help="count and write the labels, read no image")
    prepare.set_defaults(command=_prepare)

    split = commands.add_parser("split", help="five folds, grouped by slide")
    split.add_argument("--seed", type=_whole_number, default=0)
    split.set_defaults(command=_split)

    fit = commands.add_parser("fit", help="one member")
    fit.add_argument("--folds", type=Path, required=True, metavar="FILE")
    fit.add_argument("--fold", type=int, required=True, choices=range(5))
    fit.set_defaults(command=_fit)

    run = commands.add_parser("run", help="a whole study, five members or five a domain; resumable")
    run.add_argument(
        "--leave-one-out",
        nargs="?",
        const="domain",
        metavar="COLUMN",
        help="a study for each domain, with that domain held out; or for each value of another column",
    )
    run.add_argument("--members", type=int, choices=range(1, 6), default=5, metavar="N",
                     help="of the five folds, fit the first N; a bundle needs all")  # fmt: skip
    run.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where the fits run")
    run.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE",
                     help="what a fit asks of Slurm, e.g. partition=gpu; see docs/train.md")  # fmt: skip
    run.add_argument("--max-parallel", type=_whole_number, default=0, metavar="N",
                     help="members at once; default: one a GPU, or one a core")  # fmt: skip
    run.set_defaults(command=_run)

    evaluate = commands.add_parser("evaluate", help="finished studies' figures, tables and pictures")
    evaluate.add_argument("--study", type=Path, required=True, nargs="+", metavar="DIR", help="written by run")
    evaluate.set_defaults(command=_evaluate)
    publish = commands.add_parser("publish", help="a finished study → a weights bundle")
    publish.add_argument("--study", type=Path, required=True, metavar="DIR", help="written by run")
    publish.set_defaults(command=_publish)

    for command in (fit, run):
        command.add_argument(
            "--preset",
            default="lite",
            metavar="NAME",
            help="lite, l2, smoke, or an ablation such as lite-no-stain; see docs/train.md",
        )
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
    for command in (split, fit, run):
        command.add_argument("--data", type=Path, required=True, metavar="DIR", help="written by prepare")
    for command in (split, run):
        command.add_argument("--hold-out", action="append", default=[], metavar="DOMAIN|COLUMN=VALUE",
                             help="never trained on; may be given again")  # fmt: skip
    for command in (evaluate, publish):
        command.add_argument("--data", type=Path, metavar="DIR", help="where the study's data lie, if they were moved")
        command.add_argument("--threshold-rule", default="max_balanced_accuracy",
                             choices=("max_balanced_accuracy", "otsu", "one_half", "cost_weighted"),
                             help="places the fixed threshold, out of fold (%(default)s)")  # fmt: skip
    for command in (prepare, split, fit, run, evaluate, publish):
        command.add_argument("--out", type=Path, required=True, metavar="PATH")
