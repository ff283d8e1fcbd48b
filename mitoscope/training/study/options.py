"""The options that say where fits run, for every command that runs some."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mitoscope.errors import DataError

if TYPE_CHECKING:
    from mitoscope.training.study.launch import FitJob


def whole_number(text: str) -> int:
    """An argument that is 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number, 0 or more")
    return int(text)


def add_launcher(command: argparse.ArgumentParser) -> None:
    """Add the options that `choose_launcher` reads."""
    command.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where the fits run")
    command.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE",
                         help="resources of a fit, such as partition=gpu; see docs/train.md")  # fmt: skip
    command.add_argument("--max-parallel", type=whole_number, default=0, metavar="N",
                         help="members at once (default: one per GPU, else one per core)")  # fmt: skip


def choose_launcher(options: argparse.Namespace) -> "Callable[[list[FitJob]], None]":
    """Where the fits run.

    Raises:
        DataError: --slurm is given without Slurm, or names no such resource.
    """
    if options.launcher == "slurm":
        from mitoscope.training.settings import override
        from mitoscope.training.study.slurm import run_slurm
        from mitoscope.training.study.slurm_job import Resources

        resources = override(Resources(), options.slurm, "--slurm")
        logs = options.out / "slurm"
        return partial(run_slurm, logs=logs, resources=resources, max_parallel=options.max_parallel)
    from mitoscope.training.study.launch import run_local

    if options.slurm:
        raise DataError(
            "--slurm needs --launcher slurm", got="--launcher local", expected="--launcher slurm", remedy="add it"
        )
    return partial(run_local, workers=options.max_parallel)
