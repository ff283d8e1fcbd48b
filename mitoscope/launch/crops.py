"""Crops on a cluster: each shard a job of one array, merged at the end."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitoscope.classify.listing import list_crops
from mitoscope.classify.predict import predict
from mitoscope.classify.shards import UNREADABLE_CODE, merge
from mitoscope.classify.tables import record_of
from mitoscope.launch.job import Resources, freeze_options
from mitoscope.launch.slurm import run_slurm


@dataclass(frozen=True)
class CropsJob:
    """One shard of a prediction, see `mitoscope.launch.job.Job`.

    Attributes:
        crops: As for `mitoscope.classify.predict.predict`.
        parts: The folder of all shards.
        shard: (i, N).
        options: Other arguments of `predict`.
    """

    crops: tuple[Path, ...]
    parts: Path
    shard: tuple[int, int]
    options: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """The shard's."""
        return f"shard {self.shard[0]}/{self.shard[1]}"

    @property
    def folder(self) -> Path:
        """The shard's own."""
        return self.parts / f"{self.shard[0]}-of-{self.shard[1]}"

    @property
    def table(self) -> Path:
        """The shard's predictions."""
        return self.folder / "predictions.csv"

    @property
    def result(self) -> Path:
        """Their record, which is written last."""
        return record_of(self.table)

    @property
    def extra(self) -> str:
        """No extra of the package is needed."""
        return ""

    def run(self) -> int:
        """Classify the shard; files that cannot be read fail it only where they forbid a result."""
        options = dict(self.options)
        code = predict(list(self.crops), self.table, shard=self.shard, **options)
        return 0 if code == UNREADABLE_CODE and not options.get("strict", True) else code


def launch_crops(
    crops: Sequence[Path],
    out: Path,
    resources: Resources,
    n_jobs: int,
    *,
    poll_s: float = 15.0,
    **options: Any,  # noqa: ANN401 - each of its own kind
) -> int:
    """Classify crops as one job array, and merge the shards.

    Args:
        crops: As for `mitoscope.classify.predict.predict`; the nodes must see them, and the folder of out.
        out: predictions.csv. The shards and the jobs' logs are in OUT.parts, which is deleted at the end.
        resources: Of one shard.
        n_jobs: Shards; not more than there are files.
        poll_s: Seconds between two reads of the queue.
        options: Other arguments of `predict`.

    Returns:
        As `predict`.

    Raises:
        DataError: See `predict` and `mitoscope.launch.slurm.run_slurm`; also where a file that cannot be read forbids a
            result.
    """
    count = min(n_jobs, list_crops(list(crops)).n_files)
    parts = out.with_name(f"{out.name}.parts").resolve()
    frozen = freeze_options(options)
    own = tuple(path.absolute() for path in crops)  # a link keeps its name, which is the crop's
    jobs = [CropsJob(own, parts, (number, count), frozen) for number in range(1, count + 1)]
    run_slurm(jobs, parts / "slurm", resources, poll_s=poll_s)
    code = merge([job.table for job in jobs], out)
    shutil.rmtree(parts, ignore_errors=True)
    return code
