"""What a result was computed from, by what and where, without a path of this machine."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scoring.files import hash_file
from scoring.tables import BY_FOLDER, find_record

ROOT = Path(__file__).resolve().parent.parent
CHANGES = "+changes"  # after the commit, where files differ from it
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "grand-challenge-metrics", "matplotlib")


def read_commit() -> str:
    """The commit of the code, with ``+changes`` when files differ from it; ``unknown`` outside git and the image."""
    revision = ROOT / "REVISION"  # written where the training image is built
    if revision.is_file():
        return revision.read_text(encoding="utf-8").strip()
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", f"--dirty={CHANGES}", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def describe_machine() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and the GPUs."""
    import torch  # here: evaluate and compare need the commit alone, and would wait for it

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.processor()
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    return {"processor": processor, "cores": cores, "gpus": gpus, "system": platform.system()}


def describe_code() -> dict[str, Any]:
    """The commit, and the versions of what computes."""
    versions = {"python": sys.version.split()[0], **{name: version(name) for name in LIBRARIES}}
    return {"commit": read_commit(), "versions": versions}


def describe_file(path: Path) -> dict[str, Any]:
    """A file's name and SHA-256."""
    return {"name": path.name, "sha256": hash_file(path)}


def describe_predictions(predictions_csv: Path) -> dict[str, Any]:
    """As `describe_file`, with the record that `predict` wrote beside it; None where there is none."""
    return {**describe_file(predictions_csv), "record": find_record(predictions_csv)}


def describe_labels(labels: str) -> dict[str, Any]:
    """As `describe_file`; or that the folders' names are the labels."""
    return {"name": BY_FOLDER, "sha256": None} if labels == BY_FOLDER else describe_file(Path(labels))
