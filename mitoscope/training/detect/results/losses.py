"""The validation loss of studies, and how it falls with the share of the data that they learned from."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mitoscope.errors import DataError
from mitoscope.scoring.plots.style import PALETTE, STYLE, save_picture
from mitoscope.training.detect.results.members import DetectStudy
from mitoscope.training.detect.results.tables import Results
from mitoscope.training.study.study import name_fit

PICTURE = "validation_loss.svg"
MARKERS = "os^Dv"


def read_validation_loss(study: DetectStudy) -> float:
    """The lowest validation loss of each fold's log, the mean over the folds.

    Raises:
        DataError: A log is missing, or holds no validation.
    """
    lowest = []
    for fold in study.members:
        folder = study.folder / name_fit(fold) / "log"
        logs = [pd.read_csv(path) for path in folder.rglob("metrics.csv")]  # one for each start
        losses = pd.concat([log["val_loss"].dropna() for log in logs if "val_loss" in log] or [pd.Series(dtype=float)])
        if losses.empty:
            raise DataError(
                f"{folder} holds no validation loss",
                got=f"{len(logs)} files metrics.csv",
                expected="the log that the fit wrote",
                remedy="copy the whole folder of the study",
            )
        lowest.append(losses.min())
    return float(np.mean(lowest))


def plot_losses(studies: Mapping[str, Results], path: Path) -> None:
    """Draw the validation loss over the share of the data, a line for each network, if one learned from two shares.

    Args:
        studies: As `mitoscope.training.detect.results.evaluate.compare_studies` has them, by name.
        path: The picture; deleted where it would show nothing.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for results in studies.values():
        config = results["study"]["config"]
        point = (config.get("data_share", 1.0), results["validation_loss"])
        lines.setdefault(config["architecture"], []).append(point)
    if not any(len({share for share, _ in line}) > 1 for line in lines.values()):
        path.unlink(missing_ok=True)
        return
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.5, 2.5), layout="constrained")
        axes = figure.subplots()
        for number, (architecture, line) in enumerate(lines.items()):
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            axes.plot(*zip(*sorted(line), strict=True), marker, linestyle="-", color=colour, markersize=4,
                      label=architecture)  # fmt: skip
        axes.set(xlabel="share of the training fields", ylabel="lowest validation loss", xscale="log")
        shares = sorted({share for line in lines.values() for share, _ in line})
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        axes.minorticks_off()
        axes.legend(frameon=False)
        save_picture(figure, path)
