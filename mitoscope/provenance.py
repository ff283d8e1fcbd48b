"""Describe the code, files and machine behind a result, without paths of this machine."""

import hashlib
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mitoscope.files import hash_file

PACKAGE = Path(__file__).resolve().parent
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "grand-challenge-metrics", "matplotlib")


def read_commit() -> str:
    """The commit of this code, with ``+changes`` when files differ from it; the version where it is installed."""
    revision = PACKAGE.parent / "REVISION"  # written when an image is built
    if revision.is_file():
        return revision.read_text(encoding="utf-8").strip()
    if (PACKAGE.parent / ".git").exists():
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        with suppress(OSError, subprocess.CalledProcessError):
            answer = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
            return answer.stdout.strip()
    try:
        return f"mitoscope {version('mitoscope')}"
    except PackageNotFoundError:  # files that were copied
        return "unknown"


@cache
def hash_code() -> str:
    """SHA-256 of this package's files, in a checkout and installed: what unfinished work depends on.

    Left out are what Python compiles, and the weights that the wheel adds: their manifests have hashes of their own.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        parts = path.relative_to(PACKAGE).parts
        if path.is_file() and "__pycache__" not in parts and parts[0] != "weights":
            digest.update(f"{'/'.join(parts)} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def describe_machine() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and the GPUs."""
    import torch  # here: evaluate and compare need only the commit; importing torch would delay them

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.processor()
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    return {"processor": processor, "cores": cores, "gpus": gpus, "system": platform.system()}


def list_versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of these packages."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in packages}}


def describe_command() -> dict[str, Any]:
    """The command that is running, the commit and the machine."""
    command = f"mitoscope {' '.join(sys.argv[1:])}"
    return {"command": command, "commit": read_commit(), "machine": describe_machine()}


def describe_code() -> dict[str, Any]:
    """The commit, and the versions of what computes."""
    return {"commit": read_commit(), "versions": list_versions(*LIBRARIES)}


def describe_file(path: Path) -> dict[str, Any]:
    """A file's name and SHA-256."""
    return {"name": path.name, "sha256": hash_file(path)}
