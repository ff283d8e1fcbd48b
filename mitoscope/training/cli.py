"""The commands below `mitoscope train`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mitoscope.errors import DataError
from mitoscope.training.detect.cli import add_detector_commands, add_publish_options
from mitoscope.training.foundation.commands import add_foundation_commands
from mitoscope.training.study.options import add_launcher, choose_launcher, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mitoscope.training.data.field_sources.layout import LabelledFields

T = TypeVar("T")
REPEATED = ("crops", "yolo", "truth")  # options of prepare for one data set each time


def _prepare(options: argparse.Namespace) -> None:
    # Imported here and below, so that a command does not wait for what only another one needs.
    from mitoscope.training.data.counts import format_counts
    from mitoscope.training.data.field_sources import FIELD_READERS
    from mitoscope.training.data.prepare import prepare
    from mitoscope.training.data.sources import READERS

    if fields := _read_given(options, FIELD_READERS):
        _prepare_fields(fields, options)
        return
    if options.figures:
        raise DataError(
            "--figures needs fields with labelled points",
            got="none",
            expected="an option such as --mitos14 DIR or --truth CSV DIR",
            remedy="add one",
        )
    sources = _read_given(options, READERS)
    if not sources:
        raise DataError(
            "prepare needs a data set",
            got="none",
            expected="at least one",
            remedy="add one, such as --ami-br PATH; see mitoscope train prepare --help",
        )
    table = prepare(sources, options.out, options.rois, labels_only=options.labels_only)
    print(format_counts(table))
    print(f"wrote {'the labels of ' if options.labels_only else ''}{len(table):,} crops to {options.out}")


def _read_given(options: argparse.Namespace, readers: "Mapping[str, Callable[[list[Path]], T]]") -> "list[T]":
    """The data sets at the paths that were given, each by the reader that its option names."""
    given = {name: getattr(options, name) for name in readers if getattr(options, name)}
    return [readers[name](paths) for name, at in given.items() for paths in (at if name in REPEATED else [at])]


def _prepare_fields(fields: "list[LabelledFields]", options: argparse.Namespace) -> None:
    """Prepare for a detector, or crops of the labelled points for a classifier."""
    import pandas as pd

    from mitoscope.training.data.field_sources.mined import add_mined
    from mitoscope.training.data.field_sources.sheets import make_sheets
    from mitoscope.training.data.figures import format_figure_counts, prepare_figures
    from mitoscope.training.data.prepare_fields import format_field_counts, prepare_fields
    from mitoscope.training.data.sources import READERS
    from mitoscope.training.presets import configure

    other = ("rois", "labels_only", *((*READERS, "mined") if options.figures else ()))
    if unused := [name for name in other if getattr(options, name)]:
        raise DataError(
            "fields are not prepared like crops",
            got=f"--{unused[0].replace('_', '-')} beside {'--figures' if options.figures else 'fields'}",
            expected="none",
            remedy="remove it",
        )
    if options.figures:
        table = prepare_figures(fields, options.out, options.mpp)
        print(format_figure_counts(table))
        print(f"wrote {len(table):,} crops to {options.out}")
        return
    if crops := _read_given(options, READERS):
        rows = pd.concat([source.rows() for source in crops], ignore_index=True)
        fields = [*fields, make_sheets(rows, options.out / "sheets")]
    for table in options.mined:
        fields = add_mined(fields, table)
    mpp = configure(options.preset, options.set).part.input.mpp
    data = prepare_fields(fields, options.out, mpp, options.mpp)
    print(format_field_counts(data))
    print(f"wrote {len(data.table):,} fields at {mpp:g} µm per pixel to {options.out}")


def _split(options: argparse.Namespace) -> None:
    from mitoscope.files import check_file
    from mitoscope.training.data.read import read_samples
    from mitoscope.training.folds import split, write_folds

    check_file(options.out)
    folds = split(read_samples(options.data), options.hold_out, options.seed)
    write_folds(options.out, folds)
    print(f"wrote {options.out}: folds of {[len(ids) for ids in folds.folds]}, "
          f"held out {({name: len(ids) for name, ids in folds.held_out.items()})}")  # fmt: skip


def _fit(options: argparse.Namespace) -> None:
    from mitoscope.training.fit import fit_member

    fit_member(options.data, options.folds, options.fold, options.out, options.preset, _settings(options))


def _settings(options: argparse.Namespace) -> list[str]:
    """The settings, with the base's file among them."""
    if options.base is None:
        return list(options.set)
    from mitoscope.training.presets import add_base

    return add_base(options.preset, options.set, options.base)


def _run(options: argparse.Namespace) -> None:
    from mitoscope.training.study.study import Recipe, run_leave_one_out, run_study

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops the members, too
    recipe = Recipe(options.preset, tuple(_settings(options)), options.members, options.whole)
    launch = choose_launcher(options)
    if options.leave_one_out:
        run_leave_one_out(options.data, options.out, recipe, options.hold_out, launch, options.leave_one_out)
    else:
        run_study(options.data, options.out, recipe, options.hold_out, launch)


def _evaluate(options: argparse.Namespace) -> None:
    from mitoscope.training.classify.members import with_base
    from mitoscope.training.study.results import compare_studies, evaluate_run
    from mitoscope.training.study.study import read_studies, read_study

    if len(options.study) == 1:
        studies = with_base(read_studies(options.study[0], options.data), options.base)
        print(evaluate_run(studies, options.out, options.threshold_rule, misses=options.misses, tta=options.tta))
    else:
        for option, given in (("--misses", options.misses), ("--tta", options.tta)):
            if given:
                got = f"{len(options.study)} studies"
                raise DataError(f"{option} needs one run", got=got, expected="one", remedy="remove it")
        names = [folder.resolve().name for folder in options.study]
        if len(set(names)) < len(names):
            expected = "folders with different names"
            raise DataError("two studies have the same name", got=names, expected=expected, remedy="rename one")
        found = {name: read_study(folder, options.data) for name, folder in zip(names, options.study, strict=True)}
        studies = with_base(found, options.base)
        print(compare_studies(studies, options.out, options.threshold_rule))
    print(f"wrote {options.out}")


def _publish(options: argparse.Namespace) -> None:
    from mitoscope.training.classify.publish import republish
    from mitoscope.training.data.table import read_data
    from mitoscope.training.study.results import publish
    from mitoscope.training.study.study import read_study

    source = "--study" if options.study else "--bundle"
    unused = (
        ("hold_out",)
        if options.study
        else ("threshold_rule", "members", "state", "whole", "embed_base", "merge_adapters")
    )
    for name in unused:
        if value := getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise DataError(
                f"{option} cannot be combined with {source}", got=value, expected="none", remedy="remove it"
            )
    if options.study:
        study = read_study(options.study, options.data)
        which = {"members": options.members, "state": options.state, "whole": options.whole}
        how = {"base": options.base, "embed_base": options.embed_base, "merge": options.merge_adapters}
        print(publish(study, options.out, options.threshold_rule, **which, **how))
    else:
        if not options.data:
            raise DataError(
                "--bundle needs --data", got="none", expected="a folder that prepare wrote", remedy="add it"
            )
        print(republish(options.bundle, read_data(options.data), options.hold_out, options.out, options.base))
    print(f"wrote {options.out}")


def _add_prepare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add prepare, with an option for each data set."""
    prepare = commands.add_parser("prepare", help="data sets → one folder of crops, or of fields for a detector")
    prepare.add_argument("--ami-br", type=Path, nargs="+", metavar="PATH",
                         help="the folder of crops, AMI-BR.csv, and optionally the train split's CSV")  # fmt: skip
    prepare.add_argument("--midog25", type=Path, nargs="+", metavar="PATH", help="the folder of crops, MIDOG25.csv")
    prepare.add_argument("--atnorm-br", type=Path, nargs=1, metavar="DIR", help="the folder with Atypical/ and Normal/")
    prepare.add_argument("--atnorm-md", type=Path, nargs=1, metavar="DIR", help="the folder with Atypical/ and Normal/")
    prepare.add_argument("--omg-octo", type=Path, nargs="+", metavar="PATH", help="the folder of crops, its CSV")
    prepare.add_argument("--crops", type=Path, nargs="+", action="append", metavar="PATH",
                         help="your own: a folder of crops, and its labels.csv (image_id,label[,domain][,case]) unless "
                         "they lie in Atypical/ and Normal/; may be repeated")  # fmt: skip
    prepare.add_argument("--rois", type=Path, metavar="DIR",
                         help="the slides' TIFFs, to cut crops from where a data set has none")  # fmt: skip
    prepare.add_argument("--labels-only", action="store_true", help="read no image; count and write the labels")
    fields = prepare.add_argument_group("fields, for a detector")
    fields.add_argument("--mitos14", type=Path, nargs=1, metavar="DIR", help="images/ and annotations.csv")
    fields.add_argument("--icpr12", type=Path, nargs=1, metavar="DIR", help="images/ and annotations.csv")
    fields.add_argument("--midogpp", type=Path, nargs=2, metavar=("JSON", "DIR"), help="MIDOGpp.json and its TIFFs")
    fields.add_argument("--yolo", type=Path, nargs=1, action="append", metavar="DIR",
                        help="images with YOLO's text files beside them; may be repeated")  # fmt: skip
    fields.add_argument("--truth", type=Path, nargs=2, action="append", metavar=("CSV", "DIR"),
                        help="truth.csv and its images; may be repeated")  # fmt: skip
    fields.add_argument("--mined", type=Path, action="append", default=[], metavar="CSV",
                        help="hard negatives in these fields, from mine --study; may be repeated")  # fmt: skip
    fields.add_argument("--figures", action="store_true",
                        help="cut crops of the labelled points instead: mitotic figure or look-alike")  # fmt: skip
    fields.add_argument("--mpp", type=float, metavar="X",
                        help="µm per pixel of images of which neither the data set nor the file states it")  # fmt: skip
    fields.add_argument("--preset", default="detector-lite", metavar="NAME",
                        help="fields are resampled to its µm per pixel (%(default)s)")  # fmt: skip
    fields.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="change a setting, such as input.mpp=0.25")  # fmt: skip
    prepare.set_defaults(command=_prepare)
    return prepare


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of `mitoscope train`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = _add_prepare(commands)
    split = commands.add_parser("split", help="five folds, grouped by slide")
    split.add_argument("--seed", type=whole_number, default=0)
    split.set_defaults(command=_split)

    fit = commands.add_parser("fit", help="train one member; resumable")
    fit.add_argument("--folds", type=Path, required=True, metavar="FILE")
    fit.add_argument("--fold", type=int, required=True, choices=range(6),
                     help="5: all of them; only for a detector")  # fmt: skip
    fit.set_defaults(command=_fit)

    run = commands.add_parser("run", help="train a study: five members, or five for each domain; resumable")
    run.add_argument("--leave-one-out", nargs="?", const="domain", metavar="COLUMN",
                     help="one study for each domain, with that domain held out; or for each value of another "
                          "column")  # fmt: skip
    run.add_argument("--members", type=int, choices=range(1, 6), default=5, metavar="N",
                     help="fit only the first N of the five folds (%(default)s)")  # fmt: skip
    run.add_argument("--whole", action="store_true", help="of a detector: one more network, trained on all folds")
    add_launcher(run)
    run.set_defaults(command=_run)

    evaluate = commands.add_parser("evaluate", help="finished studies → metrics, tables and pictures")
    evaluate.add_argument("--study", type=Path, required=True, nargs="+", metavar="DIR", help="written by run")
    evaluate.add_argument("--misses", action="store_true",
                          help="also misses.md: which crops are missed where ROC AUC is lowest")  # fmt: skip
    evaluate.add_argument("--tta", action="store_true",
                          help="of a detector: also in eight orientations at once, eight times slower")  # fmt: skip
    evaluate.add_argument("--base", type=Path, metavar="FILE|DIR",
                          help="the base network of adapters, if it is not where the study found it")  # fmt: skip
    evaluate.set_defaults(command=_evaluate)
    publish = commands.add_parser("publish", help="a finished study → a weights bundle")
    source = publish.add_mutually_exclusive_group(required=True)
    source.add_argument("--study", type=Path, metavar="DIR", help="written by run")
    source.add_argument("--bundle", type=Path, metavar="DIR",
                        help="publish these weights again, with today's format and card; needs --data")  # fmt: skip
    publish.add_argument("--base", type=Path, metavar="FILE|DIR",
                         help="the base network of adapters, if it is not where the study found it, or if the "
                              "bundle does not hold it")  # fmt: skip
    add_publish_options(publish)
    publish.add_argument("--embed-base", action="store_true",
                         help="store the adapters' base in the bundle, if its licence allows it")  # fmt: skip
    publish.add_argument("--merge-adapters", action="store_true",
                         help="add the adapters to the base: whole networks, larger and without --base")  # fmt: skip
    publish.set_defaults(command=_publish)
    add_detector_commands(commands)

    add_foundation_commands(commands)
    for command in (fit, run):
        command.add_argument(
            "--preset",
            default="lite",
            metavar="NAME",
            help="lite, l2, detector-lite, virchow-lora-r8, …, or an ablation such as lite-no-stain: see docs/train.md "
            "(%(default)s)",
        )
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
        command.add_argument("--base", type=Path, metavar="FILE|DIR",
                             help="the weights to start from (default: a package's, or the hub's)")  # fmt: skip
    for command in (split, fit, run):
        command.add_argument("--data", type=Path, required=True, metavar="DIR", help="written by prepare")
    for command in (split, run, publish):
        what = "with --bundle: as it was given to run" if command is publish else "never trained on; may be repeated"
        command.add_argument("--hold-out", action="append", default=[], metavar="DOMAIN|COLUMN=VALUE", help=what)
    for command in (evaluate, publish):
        command.add_argument(
            "--data", type=Path, metavar="DIR", help="written by prepare; for a study only if it was moved"
        )
        command.add_argument("--threshold-rule", choices=("max_balanced_accuracy", "otsu", "one_half", "cost_weighted"),
                             help="places a classifier's threshold, out of fold (max_balanced_accuracy); a detector's "
                                  "has the highest F1")  # fmt: skip
    for command in (prepare, split, fit, run, evaluate, publish):
        command.add_argument("--out", type=Path, required=True, metavar="PATH")
