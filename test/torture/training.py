"""`mitoscope train run` killed again and again, mostly while it saves: it ends with the same member in the end."""

import signal
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mitoscope.training.data.table import COLUMNS, KNOWN_BY_SOME, write_data
from torture.processes import End, Moment, each, run, when

CROPS, A_CASE = 40, 2
KILLS = 5  # of one study, before it may go on to its end
LONGEST_SAVE_S, LONGEST_EPOCH_S = 0.008, 0.1
# timm's smallest residual network, that saves often and takes little time between.
SETTINGS = ("architecture=test_resnet", "epochs=12", "ema_decay=0.5", "input.size_px=32", "learning_rate=0.01")


def make_data(folder: Path) -> Path:
    """A data folder of random crops, two a case."""
    rows = np.arange(CROPS)
    crops = np.random.default_rng(0).integers(0, 256, (CROPS, 128, 128, 3), dtype=np.uint8)
    table = pd.DataFrame("", index=rows, columns=[*COLUMNS, *KNOWN_BY_SOME])
    table["image_id"] = [f"random/{row}" for row in rows]
    table["case"] = [f"slide{row // A_CASE}" for row in rows]
    table["source"], table["sha256"] = "random", [f"{row:064x}" for row in rows]
    table["label"] = np.where(rows // A_CASE % 2 == 0, "atypical", "normal")
    write_data(folder, table, crops)
    return folder


def train(data: Path, out: Path, moment: Moment = lambda _: False) -> End:
    """One member of a study; the group that is killed is the study and its fit."""
    changes = [word for setting in SETTINGS for word in ("--set", setting)]
    arguments = ["--data", data, "--out", out, "--preset", "smoke", *changes, "--members", "1"]
    return run("-m", "mitoscope", "train", "run", *arguments, moment=moment, number=signal.SIGKILL)


def kill_training(count: int, seed: int, workers: int, folder: Path) -> dict[str, int]:
    """Kill `mitoscope train run` `count` times, up to five times a study, and let each study end.

    Each shot waits for the first to sixth checkpoint that its process begins to write, and a random delay: within the
    writing, or, every second time, up to an epoch's length later.

    Returns:
        Counts: ``cases`` (studies), ``hit`` (kills), ``saving`` (of these, with a checkpoint half written), ``resumed``
        (starts after a kill that had a whole checkpoint to go on from); and ``wrong``: a study that did not end, or
        whose member or predictions are not those of the unbroken one.
    """
    data = make_data(folder / "data")
    train(data, folder / "unbroken")
    new = _result(folder / "unbroken")

    def study(index: int) -> dict[str, int]:
        out, random = folder / str(index), np.random.default_rng((seed, index))
        counts = {"cases": 1, "hit": 0, "saving": 0, "resumed": 0}
        for shot in range(min(KILLS, count - index * KILLS)):
            begun, before = _Begun(out / "fold0"), _drafts(out / "fold0")
            delay_s = float(random.random()) * (LONGEST_EPOCH_S if shot % 2 else LONGEST_SAVE_S)
            killed = train(data, out, when(partial(begun.reach, int(random.integers(1, 7))), delay_s)).code != 0
            counts["hit"] += killed
            counts["saving"] += killed and bool(_drafts(out / "fold0") - before)
            counts["resumed"] += killed and (out / "fold0" / "last.ckpt").exists()
        wrong = train(data, out).code != 0 or not new or _result(out) != new
        return {**counts, "wrong": wrong}

    return each(study, -(-count // KILLS), workers)


class _Begun:
    """Counts the checkpoints that a process has begun to write; those of an earlier process do not count."""

    def __init__(self, fold: Path) -> None:
        self.fold, self.left, self.names = fold, _drafts(fold), set[str]()

    def reach(self, number: int) -> bool:
        """Look, and return whether so many have been begun."""
        self.names |= _drafts(self.fold) - self.left
        return len(self.names) >= number


def _drafts(fold: Path) -> set[str]:
    """The half-written checkpoints in a member's folder."""
    try:
        return {path.name for path in (fold / ".partial").iterdir()}
    except OSError:
        return set()


def _result(study: Path) -> list[bytes]:
    """The files of a finished member that publishing reads; nothing for an unfinished one."""
    names = ("member.safetensors", "validation.csv")
    return [(study / "fold0" / name).read_bytes() for name in names if (study / "fold0" / "done.json").exists()]
