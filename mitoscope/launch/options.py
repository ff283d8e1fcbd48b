"""The options that say where work runs, for every command that can run on Slurm."""

import argparse

from mitoscope.errors import DataError
from mitoscope.launch.job import Resources
from mitoscope.settings import override


def add_launcher(command: argparse.ArgumentParser, what: str) -> None:
    """Add the options that `read_resources` reads; what: the work of one job, for the help."""
    command.add_argument("--launcher", choices=("local", "slurm"), default="local",
                         help="where it runs: here, or as jobs of a Slurm cluster (default: %(default)s)")  # fmt: skip
    command.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE",
                         help=f"resources of {what}, such as partition=gpu; see docs/train.md")  # fmt: skip


def read_resources(options: argparse.Namespace) -> Resources | None:
    """The resources of a Slurm job; None where the work runs on this machine.

    Raises:
        DataError: --slurm is given without Slurm, or names no such resource.
    """
    if options.launcher == "slurm":
        return override(Resources(), options.slurm, "--slurm")
    if options.slurm:
        raise DataError(
            "--slurm needs --launcher slurm", got="--launcher local", expected="--launcher slurm", remedy="add it"
        )
    return None
