"""Score one case: the handler of its sockets reads it, predicts, and writes one JSON.

Cheap checks come first: the case is read and the output folder is tested before torch is imported and the weights are
loaded. On a failure nothing is written, and an older result stays as it was.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from mitoscope.bundle.find import DEFAULTS, DETECTOR_DEFAULTS, find_bundle
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.read import read_ahead, read_bundle
from mitoscope.errors import InputError, WeightsError
from mitoscope.memory import keep_freed_memory
from mitoscope.sockets import INPUT_SLUG, OUTPUT_NAME, POINTS_NAME, REGION_SLUG
from mitoscope.stopwatch import Stopwatch
from model import classification, detection
from model.contract import read_slugs, remove_partial


class Case(Protocol):
    """A scored case."""

    def describe(self) -> list[str]:
        """The log's lines on the result."""

    def tabulate(self) -> list[str]:
        """One line per result, for ``--table``."""


class Model(Protocol):
    """A bundle's networks on one device."""

    bundle: Any
    device: Any
    precision: str


@dataclass(frozen=True)
class Handler:
    """How one track's cases are scored.

    Attributes:
        name: The track, for messages.
        task: The task of its bundles.
        defaults: The weights in the package and in the checkout.
        output_name: The result's file name in the output folder.
        score: (input folder, output folder, function that loads the model, stopwatch) → the scored case.
        get_place: Imports the function that makes a model of (bundle, its files, device, precision, base).
    """

    name: str
    task: str
    defaults: tuple[Path, ...]
    output_name: str
    score: Callable[..., Case]
    get_place: Callable[[], Callable[..., Model]]


HANDLERS: dict[tuple[str, ...], Handler] = {
    (REGION_SLUG,): Handler(
        "Track 1", "detect", DETECTOR_DEFAULTS, POINTS_NAME, detection.score_region, detection.get_place
    ),
    (INPUT_SLUG,): Handler(
        "Track 2", "classify", DEFAULTS, OUTPUT_NAME, classification.score_stack, classification.get_place
    ),
}


def run_case(input_dir: Path, output_dir: Path, get_model: Callable[[Handler], Model], watch: Stopwatch) -> Case:
    """Score one case.

    Args:
        input_dir: The case's folder, with ``inputs.json`` and ``images/``.
        output_dir: Where the result goes; made if it is missing.
        get_model: Loads the networks for a handler; called after the case has been read.
        watch: Measures the seconds by stage.

    Raises:
        MitoscopeError: Any failure that outside data can cause. Nothing is written then.
    """
    slugs = read_slugs(input_dir)
    handler = HANDLERS.get(slugs)
    if handler is None:
        raise InputError(
            "the case's sockets are unknown",
            got=str(list(slugs))[:200],
            expected=" or ".join(str(list(known)) for known in HANDLERS),
            remedy="select the interface of this challenge's track on the platform",
        )

    def get_checked() -> Model:
        model = get_model(handler)
        _check_task(model.bundle, handler)
        return model

    return handler.score(input_dir, output_dir, get_checked, watch)


def _check_task(bundle: Bundle, handler: Handler) -> None:
    """Refuse weights that were made for the other track."""
    if bundle.task != handler.task:
        raise WeightsError(
            "the weights are for another track than the case",
            got=f"the bundle {bundle.name} of the task {bundle.task}, and a case of {handler.name}",
            expected=f"a bundle of the task {handler.task}",
            remedy="name one with --weights, or submit the container to its own track",
        )


def load_model(
    weights: Path | None,
    device: str,
    precision: str,
    watch: Stopwatch,
    *,
    base: Path | None = None,
    handler: Handler | None = None,
) -> Model:
    """Verify the bundle, and read its members while torch is being imported.

    Args:
        weights: The bundle's folder; None: see `mitoscope.bundle.find.find_bundle`.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        watch: Measures the seconds by stage.
        base: The base network of a bundle of adapters that does not hold it: its file or folder.
        handler: That of the case, if it is known: its defaults are used, and bundles of another task refused.

    Raises:
        WeightsError: The bundle is missing, broken, or of another task than the handler's.
        DeviceError: This machine lacks the device or the precision.
    """
    keep_freed_memory()
    bundle = read_bundle(find_bundle(weights, None if handler is None else handler.defaults))
    if handler is not None:
        _check_task(bundle, handler)
    get_place = {each.task: each.get_place for each in HANDLERS.values()}[bundle.task]
    contents = read_ahead(bundle)
    with watch.stage("imports"):
        place = get_place()
        from mitoscope.networks.device import choose_device, choose_precision
    with watch.stage("weights"):
        where = choose_device(device)
        return place(bundle, contents, where, choose_precision(precision, where, bundle), base)


def find_results(output_dir: Path) -> list[Path]:
    """The path of each track's result; the file may not exist."""
    return [output_dir / handler.output_name for handler in HANDLERS.values()]


def remove_partials(output_dir: Path) -> None:
    """Remove the partial result of an interrupted case."""
    for result in find_results(output_dir):
        remove_partial(result)


def describe_model(model: Model) -> list[str]:
    """The log's lines on versions, device and bundle."""
    import torch

    versions = [f"python {platform.python_version()}", f"torch {torch.__version__} (CUDA {torch.version.cuda})"]
    versions += [f"{package} {version(package)}" for package in ("timm", "numpy", "Pillow")]
    bundle, threshold = model.bundle, model.bundle.threshold
    if model.device.type == "cuda":
        device = f"{torch.cuda.get_device_name(model.device)}, {model.precision}"
    elif torch.cuda.is_available():
        device = f"CPU, {model.precision} - A GPU IS THERE BUT NOT USED: --device cpu was given"
    else:
        device = f"CPU, {model.precision} - NO GPU IS USED: torch sees no CUDA device; this is slower"
    return [
        f"versions  {', '.join(versions)}",
        f"device    {device}",
        f"bundle    {bundle.name} in {str(bundle.folder)!r}: {len(bundle.members)} x {bundle.architecture}, "
        f"{bundle.input.size_px} px, {bundle.classes[-1]} from {threshold.value:.4f} on ({threshold.rule})",
    ]
