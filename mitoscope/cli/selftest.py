"""The command ``selftest``: this machine, and with --full what training does on its GPU."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mitoscope.cli.options import Commands, add_command, add_device, add_weights
from mitoscope.errors import DataError

if TYPE_CHECKING:
    from mitoscope.training.study.selftest import FoldPlan


def add_selftest(commands: Commands) -> None:
    command = add_command(commands, "selftest", _selftest, "check this machine: precision and speed, in a minute",
                          "Classify sixteen drawn crops that come with mitoscope. Prints what this machine is, how "
                          "far each precision moves the probabilities, and the speed. With --full it also trains a "
                          "network on a GPU. Exit code 1: a check failed.")  # fmt: skip
    add_weights(command)
    add_device(command)
    command.add_argument("--out", type=Path, metavar="FILE", help="write the results here too, as JSON")
    command.add_argument("--full", action="store_true",
                         help="also train fold 0 of preset l2, in a temporary folder; needs --data, a GPU and "
                              "mitoscope[train]")  # fmt: skip
    command.add_argument("--data", type=Path, metavar="DIR",
                         help="with --full: the crops, as 'train prepare' wrote them")  # fmt: skip
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                         help="with --full: change one setting of the preset, such as epochs=2")  # fmt: skip


def _selftest(options: argparse.Namespace) -> int:
    from mitoscope.classify.selftest import run_selftest
    from mitoscope.files import check_file, write_json

    if options.out is not None:
        check_file(options.out)
    plan = _plan_full(options)
    checks, result = run_selftest(options.weights, options.device)
    print(*checks, sep="\n", flush=True)
    if plan is not None:
        from mitoscope.training.study.selftest import measure_fold

        trained, result["training"] = measure_fold(plan)
        print(*trained, sep="\n")
        checks += trained
    if options.out is not None:
        write_json(options.out, result)
        print(f"wrote {options.out}")
    return 1 if any(check.good is False for check in checks) else 0


def _plan_full(options: argparse.Namespace) -> "FoldPlan | None":
    """What --full will train; None without it. All that can be wrong is reported before any work."""
    if not options.full:
        for name in ("data", "set"):
            if value := getattr(options, name):
                raise DataError(f"--{name} needs --full", got=value, expected="--full", remedy=f"remove --{name}")
        return None
    if options.data is None:
        raise DataError(
            "--full needs --data", got="none", expected="a folder that train prepare wrote", remedy="add it"
        )
    from mitoscope.training.study.selftest import plan_fold, require_gpu

    require_gpu(options.device)
    return plan_fold(options.data, options.set)
