"""Slides on a cluster: each slide a job of one array, their rows put together in slides.csv."""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitoscope.files import write_text
from mitoscope.launch.job import Resources, freeze_options
from mitoscope.launch.slurm import list_failures
from mitoscope.slide.run import (
    TABLE,
    WAITING,
    check_slides,
    encode_table,
    finish,
    make_failed_row,
    make_folder,
    run_slides,
)

LOGS = "slurm"


@dataclass(frozen=True)
class SlideJob:
    """One slide, see `mitoscope.launch.job.Job`; its row is written beside its folder.

    Attributes:
        slide: The file.
        out: The folder for the results of all slides.
        options: Other arguments of `mitoscope.slide.run.run_slides`.
    """

    slide: Path
    out: Path
    options: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """The slide's."""
        return self.slide.name

    @property
    def folder(self) -> Path:
        """Beside the slide's results."""
        return self.out / LOGS / self.slide.name

    @property
    def result(self) -> Path:
        """The table of this slide."""
        return self.folder / TABLE

    @property
    def extra(self) -> str:
        """The extra of the package."""
        return "slides"

    def run(self) -> None:
        """Analyse the slide. One that cannot be analysed is a row with its reason, not a job that failed."""
        self.result.unlink(missing_ok=True)  # of an earlier command, perhaps with other weights
        run_slides([self.slide], self.out, table=self.result, **dict(self.options))


def launch_slides(
    slides: Sequence[Path],
    out: Path,
    resources: Resources,
    *,
    poll_s: float = 15.0,
    **options: Any,  # noqa: ANN401 - each of its own kind
) -> int:
    """Analyse slides as one job array.

    Args:
        slides: As for `mitoscope.slide.run.run_slides`; the nodes must see them, and out.
        out: As there. The jobs' logs are in out/slurm.
        resources: Of one slide.
        poll_s: Seconds between two reads of the queue.
        options: Other arguments of `run_slides`.

    Returns:
        As `run_slides`; a job that failed is a row with its last line.

    Raises:
        DataError: See `run_slides` and `mitoscope.launch.slurm.list_failures`.
    """
    check_slides(slides, out, options["floor"], options["region"])
    make_folder(out)
    frozen = freeze_options(options)
    jobs = [SlideJob(slide.absolute(), out.absolute(), frozen) for slide in slides]
    failures = list_failures(jobs, out / LOGS, resources, poll_s=poll_s)
    rows: list[dict[str, Any]] = []
    for job in jobs:
        if job in failures:
            rows.append(make_failed_row(job.slide, str(failures[job]), out / job.name))
            continue
        with job.result.open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        if row["state"] == WAITING:
            reason = f"its job ended early: read its log in {out / LOGS}"
            row = make_failed_row(job.slide, reason, out / job.name)
        rows.append(row)
    write_text(out / TABLE, encode_table(rows))
    for job in jobs:
        shutil.rmtree(job.folder, ignore_errors=True)
    return finish(out / TABLE, rows)
