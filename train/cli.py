"""The command line of python -m train: arguments in, one clear line out when something is wrong."""

import argparse
import sys
from pathlib import Path

from model.errors import DataError, MitosisError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with one line on stderr otherwise."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except MitosisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # disk full, no permission: the system's own words are the clearest
        print(
            f"error: {error}; free space or correct the permissions, then run the same command again", file=sys.stderr
        )
        return 1
    return 0


def _prepare(options: argparse.Namespace) -> None:
    from train.prepare import prepare  # here and below: a command does not wait for what another one imports
    from train.sources import AtnormBr

    sources = [_ami_br(options.ami_br), *([AtnormBr(options.atnorm_br)] if options.atnorm_br else [])]
    table = prepare(sources, options.out)
    print(table.groupby(["source", "domain", "label"]).size().unstack("label").to_string())
    print(f"wrote {len(table)} crops to {options.out}")


def _ami_br(paths: list[Path]) -> "AmiBr":  # type: ignore[name-defined]  # noqa: F821
    """AMi-Br's folder of crops, its table and perhaps the benchmark's train split, in any order."""
    from train.sources import AmiBr

    folders = [path for path in paths if path.is_dir()]
    splits = [path for path in paths if "split" in path.stem]
    tables = [path for path in paths if path not in folders and path not in splits]
    if len(folders) != 1 or len(tables) != 1 or len(splits) > 1:
        raise DataError(
            "--ami-br is incomplete",
            got=[str(path) for path in paths],
            expected="the folder of crops, AMI-BR.csv and, if wanted, the train split's CSV",
            remedy="name them after --ami-br",
        )
    return AmiBr(folders[0], tables[0], splits[0] if splits else None)


def _split(options: argparse.Namespace) -> None:
    from train.folds import split, write_folds
    from train.table import read_data

    folds = split(read_data(options.data), options.hold_out, options.seed)
    write_folds(options.out, folds)
    print(f"wrote {options.out}: folds of {[len(ids) for ids in folds.folds]} crops, "
          f"held out {({name: len(ids) for name, ids in folds.held_out.items()})}")  # fmt: skip


def _fit(options: argparse.Namespace) -> None:
    from train.config import PRESETS, override
    from train.fit import fit
    from train.folds import read_folds
    from train.table import read_data

    data = read_data(options.data)
    fit(
        data, read_folds(options.folds, data), options.fold, override(PRESETS[options.preset], options.set), options.out
    )


def _run(options: argparse.Namespace) -> None:
    from functools import partial

    from train.launch import run_local
    from train.study import Recipe, run_leave_one_out, run_study

    recipe = Recipe(options.preset, tuple(options.set))
    launch = partial(run_local, workers=options.max_parallel)
    if options.leave_one_out:
        run_leave_one_out(options.data, options.out, recipe, options.hold_out, launch, options.leave_one_out)
    else:
        run_study(options.data, options.out, recipe, options.hold_out, launch)


def _evaluate(options: argparse.Namespace) -> None:
    from train.files import write_json
    from train.publish import publish, table_rows
    from train.study import read_study

    study = read_study(options.study)
    results = publish(study, options.study / "bundle", options.threshold_rule, options.study.name)
    record = {key: value for key, value in study.record.items() if key != "data"}  # a path of this machine
    write_json(options.out / "figures.json", {**results, "study": record})
    print("\n".join(table_rows(results)))


def _publish(options: argparse.Namespace) -> None:
    from train.publish import publish, table_rows
    from train.study import read_study

    results = publish(read_study(options.study), options.out, options.threshold_rule, options.out.name)
    print("\n".join(table_rows(results)))
    print(f"wrote {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description="From public data sets to a weights bundle.")
    commands = parser.add_subparsers(required=True)

    prepare = commands.add_parser("prepare", help="data sets → one table and one array of crops")
    prepare.add_argument("--ami-br", type=Path, nargs="+", required=True, metavar="PATH",
                         help="the folder of crops, AMI-BR.csv, and perhaps the train split's CSV")  # fmt: skip
    prepare.add_argument("--atnorm-br", type=Path, metavar="DIR", help="the folder with Atypical/ and Normal/")
    prepare.set_defaults(command=_prepare)

    split = commands.add_parser("split", help="five folds, grouped by slide")
    split.add_argument("--seed", type=int, default=0)
    split.set_defaults(command=_split)

    fit = commands.add_parser("fit", help="one member")
    fit.add_argument("--folds", type=Path, required=True, metavar="FILE")
    fit.add_argument("--fold", type=int, required=True, choices=range(5))
    fit.set_defaults(command=_fit)

    run = commands.add_parser("run", help="a whole study, five members or five a domain; resumable")
    run.add_argument("--leave-one-out", nargs="?", const="domain", metavar="COLUMN",
                     help="a study for each domain, with that domain held out; or for each value of another column")
    run.add_argument("--max-parallel", type=int, default=0, metavar="N",
                     help="members at once; default: one a GPU, or one a core")  # fmt: skip
    run.set_defaults(command=_run)

    evaluate = commands.add_parser("evaluate", help="a finished study's figures, as JSON")
    evaluate.set_defaults(command=_evaluate)
    publish = commands.add_parser("publish", help="a finished study → a weights bundle")
    publish.set_defaults(command=_publish)

    for command in (fit, run):
        command.add_argument("--preset", default="lite", choices=("lite", "l2", "smoke"))
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
    for command in (split, fit, run):
        command.add_argument("--data", type=Path, required=True, metavar="DIR", help="written by prepare")
    for command in (split, run):
        command.add_argument("--hold-out", action="append", default=[], metavar="DOMAIN|COLUMN=VALUE",
                             help="never trained on; may be given again")  # fmt: skip
    for command in (evaluate, publish):
        command.add_argument("--study", type=Path, required=True, metavar="DIR", help="written by run")
        command.add_argument("--threshold-rule", default="max_balanced_accuracy",
                             choices=("max_balanced_accuracy", "otsu", "one_half"))  # fmt: skip
    for command in (prepare, split, fit, run, evaluate, publish):
        command.add_argument("--out", type=Path, required=True, metavar="PATH")
    return parser
