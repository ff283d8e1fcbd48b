"""Check this machine: versions, probabilities, speed. It takes about a minute.

The crops are sixteen drawn ones, whose probabilities by the default weights are known.
"""

import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mitoscope.bundle.find import DEFAULTS, find_bundle
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.read import MANIFEST, read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.errors import DataError, DeviceError
from mitoscope.files import read_json
from mitoscope.images.crops import read_crops
from mitoscope.memory import keep_freed_memory
from mitoscope.networks.build import build_network
from mitoscope.networks.device import DTYPES, choose_device, choose_precision
from mitoscope.provenance import PACKAGE, describe_machine, list_versions, read_commit

CHECKOUT = PACKAGE.parent / "test"
STACKS = (PACKAGE / "weights" / "sample.tiff", *sorted(CHECKOUT.glob("input/interf0/images/*/*.tiff")))
EXPECTED = (PACKAGE / "weights" / "sample.json", *sorted(CHECKOUT.glob("expected/interf0/*.json")))
TOLERANCE = 1e-4  # of a probability, from machine to machine in fp32
BULK_CROPS = 128
ROUNDS = 3
SIDE = 2048  # of the square matrices that are multiplied
LEAST_SHARE = {True: 0.4, False: 0.1}  # of the matrix rate, for large and for small networks


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked.
        found: The result, in words.
        good: Whether it is as expected; None if there is no reference.
    """

    name: str
    found: str
    good: bool | None = None

    def __str__(self) -> str:
        """One line."""
        return f"{ {True: 'ok', False: 'BAD', None: '--'}[self.good]:4s} {self.name:12s} {self.found}"


def run_selftest(weights: Path | None = None, device: str = "auto") -> tuple[list[Check], dict[str, Any]]:
    """Run all checks.

    Args:
        weights: A bundle's folder; None: see `mitoscope.bundle.find.find_bundle`.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The checks, and the same as JSON values.

    Raises:
        MitoscopeError: There is no usable bundle, or the device is not there.
    """
    keep_freed_memory()
    bundle = read_bundle(find_bundle(weights))
    crops, expected = read_sample(bundle)
    classifier = Classifier.load(bundle.folder, device=device)
    exact = Classifier.load(bundle.folder, device=device, precision="fp32").predict_proba(crops)
    machine = {**describe_machine(), "driver": read_driver()}
    versions = {**list_versions("torch", "timm", "numpy", "Pillow"), "torch": torch.__version__}
    checks = [*describe_parts(machine, versions), Check("weights", f"{bundle.name} in {bundle.folder}")]
    result: dict[str, Any] = {"machine": machine, "versions": versions, "commit": read_commit(), "bundle": bundle.name}
    if expected is not None:
        change = float(np.abs(exact - expected).max())
        checks.append(Check("fp32", f"at most {change:.1e} from the known probabilities", change <= TOLERANCE))
        result["largest_change_from_known"] = change
    result["precisions"] = {}
    for precision in ("fp16", "bf16"):
        check, measured = measure_precision(bundle, device, precision, crops, exact)
        checks.append(check)
        result["precisions"][precision] = measured
    speed, result["speed"] = measure_speed(classifier, crops)
    stack, result["stack_s"] = measure_stack(bundle, device)
    return [*checks, speed, stack], result


def find_sample() -> tuple[Path, Path]:
    """The drawn stack, and its result by the default weights: of the installed package, or of the checkout.

    Raises:
        DataError: They are missing.
    """
    stack, expected = (next((path for path in places if path.is_file()), None) for places in (STACKS, EXPECTED))
    if stack is None or expected is None:
        raise DataError(
            "the sample crops are missing",
            got=f"no {STACKS[0]}",
            expected="the files of an installed mitoscope (the container's image does not have them)",
            remedy="install mitoscope with pip",
        )
    return stack, expected


def read_sample(bundle: Bundle) -> tuple[np.ndarray, np.ndarray | None]:
    """The drawn crops, uint8 (16, 128, 128, 3), and their probabilities, float64 (16,), if the weights are known."""
    stack, expected = find_sample()
    crops = read_crops(stack)
    default = next((folder for folder in DEFAULTS if (folder / MANIFEST).is_file()), None)
    known = None if default is None else read_bundle(default)
    if known is None or any(
        getattr(bundle, part) != getattr(known, part) for part in ("members", "input", "calibration")
    ):
        return crops, None
    return crops, np.array([page["confidence"] for page in read_json(expected)])


def describe_parts(machine: dict[str, Any], versions: dict[str, str]) -> list[Check]:
    """Packages, processor and GPU."""
    bf16 = "bf16 in hardware" if torch.cpu._is_avx512_bf16_supported() else "no bf16 in hardware"
    checks = [
        Check("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
        Check("processor", f"{machine['processor']}, {machine['cores']} cores, {bf16}"),
    ]
    driver = f"NVIDIA driver {machine['driver'] or 'not found'}"
    if not torch.cuda.is_available():
        return [*checks, Check("GPU", f"none that torch can use, {driver}: networks run on the processor")]
    major, minor = torch.cuda.get_device_capability()
    memory_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
    found = f"{machine['gpus'][0]}, sm_{major}{minor}, {memory_gb:.0f} GB, {driver}, CUDA {torch.version.cuda}"
    return [*checks, Check("GPU", found, (major, minor) >= (7, 0))]


def read_driver() -> str | None:
    """The NVIDIA driver's version; None where nvidia-smi is missing or finds no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return next(iter(done.stdout.splitlines()), None) if done.returncode == 0 else None


def measure_precision(
    bundle: Bundle, device: str, precision: str, crops: np.ndarray, exact: np.ndarray
) -> tuple[Check, dict[str, float] | None]:
    """How far a precision moves the probabilities of the sample."""
    try:
        p_atypical = Classifier.load(bundle.folder, device=device, precision=precision).predict_proba(crops)
    except DeviceError as error:
        return Check(precision, f"not on this machine: got {error.got}"), None
    change = float(np.abs(p_atypical - exact).max())
    flipped = int(((p_atypical >= bundle.threshold.value) != (exact >= bundle.threshold.value)).sum())
    found = f"at most {change:.1e} from fp32, {flipped} of {len(crops)} classes change"
    chosen = choose_precision("auto", choose_device(device), bundle) == precision
    return Check(precision, found, flipped == 0 if chosen else None), {"largest_change": change, "flipped": flipped}


def measure_speed(classifier: Classifier, crops: np.ndarray) -> tuple[Check, dict[str, float]]:
    """Crops a second, and what that is of the rate of a matrix product."""
    many = np.concatenate([crops] * math.ceil(BULK_CROPS / len(crops)))
    classifier.predict_members(crops)
    seconds = min(clock(lambda: classifier.predict_members(many)) for _ in range(ROUNDS))
    flops = count_flops(classifier.bundle)
    rate = measure_matrix_rate(DTYPES[classifier.precision], classifier.device)
    crops_per_s = len(many) / seconds
    share = crops_per_s * flops / rate
    large = flops / len(classifier.bundle.members) > 5e9
    found = f"{crops_per_s:.0f} crops a second in {classifier.precision} on {classifier.device.type}, "
    found += f"{100 * share:.0f} % of the rate of a matrix product ({100 * LEAST_SHARE[large]:.0f} % or more is usual)"
    numbers = {"crops_per_s": crops_per_s, "gflop_a_crop": flops / 1e9, "matrix_gflops": rate / 1e9}
    return Check("speed", found, share >= LEAST_SHARE[large]), numbers


def measure_stack(bundle: Bundle, device: str) -> tuple[Check, float]:
    """Seconds of a whole process, from its start to predictions.csv of one stack."""
    sample, _ = find_sample()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mitoscope", "classify", "--crops", str(sample), "--device", device]
        command += ["--weights", str(bundle.folder.resolve()), "--out", str(Path(folder) / "predictions.csv")]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=PACKAGE.parent, check=False, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    if done.returncode:
        raise DeviceError(
            "a process of its own cannot classify the sample",
            got=f"exit code {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}",
            expected="exit code 0",
            remedy="fix the cause, then run the same command again",
        )
    return Check("a stack", f"{seconds:.1f} s from the start of a process to the result of 16 crops"), seconds


def clock(work: Callable[[], object]) -> float:
    """Seconds that some work takes; a GPU is waited for."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def count_flops(bundle: Bundle) -> float:
    """Floating-point operations of one crop through all members; a multiplication and an addition are two."""
    with torch.device("meta"):
        network = build_network(bundle.architecture, bundle.input.size_px).eval()
        image = torch.empty(1, 3, bundle.input.size_px, bundle.input.size_px)
    with FlopCounterMode(display=False) as counter:
        network(image)
    return float(counter.get_total_flops() * sum(len(member.orientations) or 1 for member in bundle.members))


def measure_matrix_rate(dtype: torch.dtype, device: torch.device, rounds: int = 8) -> float:
    """Operations a second of a matrix product; the best of some rounds."""
    a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    return 2 * SIDE**3 / min(clock(lambda: a @ b) for _ in range(rounds))
