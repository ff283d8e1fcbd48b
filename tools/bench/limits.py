"""Lower bounds on this machine: bare imports, reading the weights, the arithmetic."""

import subprocess
import sys
from typing import Any

import torch

from mitoscope.bundle.manifest import Bundle
from mitoscope.classify.selftest import clock, measure_matrix_rate

COPIED_BYTES = 2**28


def time_imports(modules: str) -> float:
    """Seconds of a process that imports modules and ends."""
    return clock(lambda: subprocess.run([sys.executable, "-c", f"import {modules}"], check=True))


def time_reading(bundle: Bundle) -> float:
    """Seconds to read the members' bytes; where they were read before, from memory."""
    return clock(lambda: [(bundle.folder / member.file).read_bytes() for member in bundle.members])


def measure_rates(dtype: torch.dtype, device: torch.device, rounds: int = 8) -> dict[str, Any]:
    """The best rates seen of a matrix product in a precision, and of a copy in memory."""
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return {
        "matrix_gflops": measure_matrix_rate(dtype, device, rounds) / 1e9,
        "copy_gbytes_per_s": COPIED_BYTES / 1e9 / min(clock(lambda: target.copy_(source)) for _ in range(rounds)),
    }
