"""What made a result: the code's commit and the machine."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent


def read_commit() -> str:
    """The commit of the code, with ``+changes`` when files differ from it; ``unknown`` outside git and the image."""
    revision = ROOT / "REVISION"  # written where the training image is built
    if revision.is_file():
        return revision.read_text(encoding="utf-8").strip()
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"],
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
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.processor()
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    return {"processor": processor, "cores": cores, "gpus": gpus, "system": platform.system()}
