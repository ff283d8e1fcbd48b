"""Choose the device and the precision of the networks."""

import torch

from mitoscope.bundle.manifest import Bundle
from mitoscope.errors import DeviceError
from mitoscope.networks.build import find_runtime

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MOST_FLIPPED = 0.005  # ``auto`` takes a precision that changes at most this share of the classes


def choose_device(device: str) -> torch.device:
    """The device for ``"auto"``, ``"cpu"`` or ``"cuda"``; ``"cuda"`` without a GPU is an error."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise DeviceError(
            "--device cuda cannot be used",
            got="no CUDA device that torch can see",
            expected="an NVIDIA GPU with driver 525 or newer",
            remedy="select a GPU (docker run --gpus all), or use --device cpu",
        )
    return torch.device("cuda" if device == "cuda" or (device == "auto" and available) else "cpu")


def choose_precision(precision: str, device: torch.device, bundle: Bundle, *, for_slides: bool = False) -> str:
    """Choose the precision for ``"auto"``, or check a named one: fp16 needs a GPU, bf16 on a GPU needs Ampere.

    ``"auto"`` is fp32 unless the manifest holds a measurement by which a coarser precision changes at most one class in
    two hundred. Then it is fp16 on a GPU, or bf16 on a CPU with bf16 arithmetic where `Runtime.bf16` says so: for large
    networks always, for small ones on slides alone. Small networks do crops and regions in seconds, and so give nearly
    the same digits on every CPU.
    """
    if precision == "auto":
        coarse = "fp16" if device.type == "cuda" else "bf16"
        measured = bundle.rounding.get(coarse)
        harmless = measured is not None and measured.flipped <= MOST_FLIPPED
        return coarse if harmless and (device.type == "cuda" or _bf16_pays(bundle, for_slides)) else "fp32"
    check_precision(precision, device)
    return precision


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that this device lacks.

    Raises:
        DeviceError: It is fp16 on a CPU, or bf16 on a GPU before Ampere.
    """
    lacking = (precision == "fp16" and device.type == "cpu") or (
        precision == "bf16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    )
    if lacking:
        raise DeviceError(
            f"--precision {precision} cannot be used",
            got=f"device {device.type} without {precision} arithmetic",
            expected="fp32 everywhere, fp16 on a GPU, bf16 on a CPU or a GPU from Ampere on",
            remedy="use --precision auto",
        )


def _bf16_pays(bundle: Bundle, for_slides: bool) -> bool:
    """Whether this CPU shall compute these networks in bf16."""
    runtime = find_runtime(bundle.architecture)
    when = runtime.bf16 if runtime else "never"
    return (when == "always" or (when == "slides" and for_slides)) and torch.cpu._is_avx512_bf16_supported()
