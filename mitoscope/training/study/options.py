"""The options that say where fits run, for every command that runs some."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mitoscope.launch.options import add_launcher as add_slurm
from mitoscope.launch.options import read_resources

if TYPE_CHECKING:
    from mitoscope.training.study.launch import FitJob


def whole_number(text: str) -> int:
    """An argument that is 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number, 0 or more")
    return int(text)


def add_launcher(command: argparse.ArgumentParser) -> None:
    """Add the options that `choose_launcher` reads."""
    add_slurm(command, "a fit")
    command.add_argument("--max-parallel", type=whole_number, default=0, metavar="N",
                         help="members at once (default: one per GPU, else one per core)")  # fmt: skip


def choose_launcher(options: argparse.Namespace) -> "Callable[[list[FitJob]], None]":
    """Where the fits run.

    Raises:
        DataError: --slurm is given without Slurm, or names no such resource.
    """
    resources = read_resources(options)
    if resources is None:
        from mitoscope.training.study.launch import run_local

        return partial(run_local, workers=options.max_parallel)
    from mitoscope.launch.slurm import run_slurm

    def run(jobs: "list[FitJob]") -> None:
        whole = [job.absolute() for job in jobs]
        run_slurm(whole, options.out / "slurm", resources, options.max_parallel)

    return run
