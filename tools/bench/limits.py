"""Lower bounds on this machine: bare imports, reading the weights, the arithmetic."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mitoscope.bundle.manifest import Bundle
from mitoscope.networks.build import build_network

SIDE = 2048  # of the square matrices that are multiplied
COPIED_BYTES = 2**28


def clock(work: Callable[[], object]) -> float:
    """Seconds that some work takes; a GPU's is waited for."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def time_imports(modules: str) -> float:
    """Seconds of a process that imports modules and ends."""
    return clock(lambda: subprocess.run([sys.executable, "-c", f"import {modules}"], check=True))


def time_reading(bundle: Bundle) -> float:
    """Seconds to read the members' bytes; where they were read before, from memory."""
    return clock(lambda: [(bundle.folder / member.file).read_bytes() for member in bundle.members])


def count_flops(bundle: Bundle) -> float:
    """Floating-point operations of one crop through all members; a multiplication and an addition are two."""
    with torch.device("meta"):
        network = build_network(bundle.architecture, bundle.input.size_px).eval()
        image = torch.empty(1, 3, bundle.input.size_px, bundle.input.size_px)
    with FlopCounterMode(display=False) as counter:
        network(image)
    return float(counter.get_total_flops() * len(bundle.members))


def measure_rates(dtype: torch.dtype, device: torch.device, rounds: int = 8) -> dict[str, Any]:
    """The best rates seen of a matrix product in a precision, and of a copy in memory."""
    a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return {
        "matrix_gflops": 2 * SIDE**3 / 1e9 / min(clock(lambda: a @ b) for _ in range(rounds)),
        "copy_gbytes_per_s": COPIED_BYTES / 1e9 / min(clock(lambda: target.copy_(source)) for _ in range(rounds)),
    }
