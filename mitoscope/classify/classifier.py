"""Crops → P(atypical) by an ensemble of networks; numpy arrays in and out.

The only way from crops to probabilities: `inference.py`, `mitoscope classify`, the report and training's own evaluation
all call `Classifier.predict_members`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mitoscope.bundle.find import find_bundle
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.members import parse_member
from mitoscope.bundle.read import read_ahead, read_base, read_bundle
from mitoscope.classify.calibrate import calibrate, set_prevalence
from mitoscope.classify.orientation import find_standard, to_standard
from mitoscope.classify.outliers import check_features
from mitoscope.classify.preprocess import preprocess
from mitoscope.classify.task import check_task
from mitoscope.errors import DeviceError
from mitoscope.networks.build import find_runtime, restore_network
from mitoscope.networks.device import DTYPES, choose_device, choose_precision
from mitoscope.networks.lora import merge_adapter
from mitoscope.networks.members import out_of_memory, place_adapters, place_members, place_tensor
from mitoscope.networks.views import turn

# Crops in one forward pass. torch selects its kernels by this number, which changes the last bits of a probability.
FORWARD_CROPS = {"cpu": 16, "cuda": 256}


class Classifier:
    """The members of one bundle on one device.

    Attributes:
        bundle: The manifest.
        device: Where the members are.
        precision: ``"fp32"``, ``"fp16"`` or ``"bf16"``.
    """

    def __init__(self, bundle: Bundle, members: Sequence[nn.Module], device: torch.device, precision: str) -> None:
        self.bundle, self.device, self.precision = bundle, device, precision
        self.members = tuple(members)  # float (B, 3, size_px, size_px) → logit of the positive class (B, 1) each

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        base: str | Path | None = None,
        prevalence: float | None = None,
        for_slides: bool = False,
    ) -> "Classifier":
        """Read, verify and place the members.

        Args:
            weights: The bundle's folder; None: see `mitoscope.bundle.find.find_bundle`.
            device: ``"auto"`` (the GPU when there is one), ``"cpu"`` or ``"cuda"``.
            precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"auto"``, see
                `mitoscope.networks.device.choose_precision`.
            base: The base network of a bundle of adapters that does not hold it: its file or folder.
            prevalence: The share of atypical figures where the crops come from, if it is known; see
                `mitoscope.classify.calibrate.set_prevalence`.
            for_slides: See `mitoscope.networks.device.choose_precision`.

        Raises:
            WeightsError: The bundle is missing, broken, or made for another task; or a prevalence is given, and the
                bundle is not calibrated.
            DataError: The prevalence is out of range.
            DeviceError: This machine lacks the device or the precision, or the GPU's memory is full.
        """
        bundle = read_bundle(find_bundle(None if weights is None else Path(weights)))
        if prevalence is not None:
            bundle = set_prevalence(bundle, prevalence)
        where = choose_device(device)
        chosen = choose_precision(precision, where, bundle, for_slides=for_slides)  # before anything is read
        return cls.place(bundle, read_ahead(bundle), where, chosen, None if base is None else Path(base))

    @classmethod
    def place(
        cls,
        bundle: Bundle,
        contents: Iterator[bytes],
        device: torch.device,
        precision: str,
        base: Path | None = None,
    ) -> "Classifier":
        """Place a bundle whose members are already being read.

        Args:
            bundle: The manifest.
            contents: The members' files, as `mitoscope.bundle.read.read_ahead` gives them.
            device: As `mitoscope.networks.device.choose_device` gives it.
            precision: As `mitoscope.networks.device.choose_precision` gives it.
            base: See `load`.
        """
        check_bundle(bundle)
        content_of_base = read_base(bundle, base)
        paths = (str(bundle.folder / member.file) for member in bundle.members)
        states = (parse_member(content, path) for path, content in zip(paths, contents, strict=True))
        own = None if content_of_base is None else parse_member(content_of_base, "the base")
        del content_of_base  # of several GB
        return cls.of(bundle, states, device, precision, own)

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        states: Iterator[Mapping[str, Tensor]],
        device: torch.device,
        precision: str,
        base: Mapping[str, Tensor] | None = None,
    ) -> "Classifier":
        """Build a classifier from tensors by timm's names.

        Args:
            bundle: The manifest.
            states: The members' tensors in the members' order; adapters, if there is a base.
            device: As `mitoscope.networks.device.choose_device` gives it.
            precision: As `mitoscope.networks.device.choose_precision` gives it.
            base: The tensors of the base.
        """
        members: Sequence[nn.Module] | None = None
        if base is not None:
            adapters = [(str(bundle.folder / m.file), state) for m, state in zip(bundle.members, states, strict=True)]
            members = place_adapters(bundle, base, adapters, device, precision)
            states = _merge_adapters(bundle, base, iter(adapters), device, precision)
        if members is None:

            def restore(state: Mapping[str, Tensor], path: str) -> nn.Module:
                return restore_network(bundle.architecture, bundle.input.size_px, state, path)

            members = place_members(bundle, states, restore, device, precision)
        return cls(bundle, members, device, precision)

    @property
    def threshold(self) -> float:
        """A crop is atypical when its probability is at least this."""
        return self.bundle.threshold.value

    def alone(self, number: int) -> "Classifier":
        """The same classifier with one of its members."""
        bundle = replace(self.bundle, members=(self.bundle.members[number],))
        return Classifier(bundle, [self.members[number]], self.device, self.precision)

    def predict_members(self, crops: np.ndarray, *, repeatable: bool = False) -> np.ndarray:
        """Every member's probability for every crop, before calibration.

        Args:
            crops: uint8 (N, 128, 128, 3), RGB in [0, 255].
            repeatable: A crop's bits do not depend on the other crops: the last batch is padded, and too little GPU
                memory is an error. Otherwise the last digits (some 1e-7) may depend on N, a short stack takes less
                time, and on too little GPU memory the batches become smaller, with a warning.

        Returns:
            float64 (M, N): P(atypical) in [0, 1] by member and crop.

        Raises:
            DeviceError: The GPU's memory is too small, or a probability is not a finite number.
        """
        at_once, done = FORWARD_CROPS[self.device.type], 0
        batches = [np.empty((len(self.members), 0))]
        while done < len(crops):
            batch = crops[done : done + at_once]
            try:
                batches.append(self._forward(_filled(batch, at_once) if repeatable else batch)[:, : len(batch)])
                done += len(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1 or repeatable:
                    raise out_of_memory(self.device, error, f"{len(batch)} crops") from error
                at_once = len(batch) // 2
                message = f"the memory of {self.device} is too small for {len(batch)} crops at once: trying {at_once}"
                warnings.warn(message, stacklevel=2)
        p_members = np.concatenate(batches, axis=1)  # (M, N)
        if not np.isfinite(p_members).all():
            raise DeviceError(
                f"{int((~np.isfinite(p_members)).sum())} probabilities are not finite",
                got=f"overflow in {self.precision} on {self.device}",
                expected="finite values",
                remedy="run again with --precision fp32",
            )
        return p_members

    def calibrate(self, p: np.ndarray) -> np.ndarray:
        """Convert the networks' probabilities, of any shape, to the calibrated scale of the threshold."""
        return calibrate(p, self.bundle.calibration)

    def combine(self, p_members: np.ndarray) -> np.ndarray:
        """The ensemble's calibrated P(atypical): float64 (M, N) of `predict_members` → float64 (N,) in [0, 1]."""
        return self.calibrate(p_members.mean(axis=0))

    def predict_proba(self, crops: np.ndarray) -> np.ndarray:
        """The ensemble's calibrated P(atypical): uint8 (N, 128, 128, 3) → float64 (N,) in [0, 1]."""
        return self.combine(self.predict_members(crops))

    @torch.inference_mode()
    def _forward(self, crops: np.ndarray) -> np.ndarray:
        """One batch through all members: uint8 (B, 128, 128, 3) → float64 (M, B)."""
        seen = [member.orientations for member in self.bundle.members]
        pixels = torch.as_tensor(crops)
        if any(seen):
            pixels = to_standard(pixels, find_standard(pixels))
        images = preprocess(pixels, self.bundle.input, self.device).to(DTYPES[self.precision])
        return torch.stack(_forward_members(self.members, seen, images)).cpu().numpy()


def _forward_members(members: Sequence[nn.Module], seen: Sequence[Sequence[int]], images: Tensor) -> list[Tensor]:
    """Each member's probabilities, the mean over its orientations: float (B, 3, S, S) → float64 (B,) each.

    Members on one base see the same tensor in an orientation, so that its patches are embedded once.
    """
    p: dict[tuple[int, int], Tensor] = {}
    for orientation in sorted({orientation for each in seen for orientation in each or (0,)}):
        view = turn(images, orientation)
        for number, (member, orientations) in enumerate(zip(members, seen, strict=True)):
            if orientation in (orientations or (0,)):
                p[number, orientation] = member(view).squeeze(1).double().sigmoid()
    return [torch.stack([p[number, k] for k in each or (0,)]).mean(dim=0) for number, each in enumerate(seen)]


def _merge_adapters(
    bundle: Bundle,
    base: Mapping[str, Tensor],
    adapters: Iterator[tuple[str, Mapping[str, Tensor]]],
    device: torch.device,
    precision: str,
) -> Iterator[Mapping[str, Tensor]]:
    """The members' tensors; they share the base's unchanged ones, which are converted and moved once.

    Adapters are added to the base as it was read, so that nothing is rounded before the sum. Networks whose batch norms
    are folded get tensors of their own from `restore_network`, which must not fold rounded ones.
    """
    shared = {}
    if find_runtime(bundle.architecture) is None:
        shared = {name: place_tensor(tensor, device, DTYPES[precision]) for name, tensor in base.items()}
    for path, adapter in adapters:
        merged = merge_adapter(base, adapter, path)
        yield {
            name: shared.get(name, tensor) if tensor is base.get(name) else tensor for name, tensor in merged.items()
        }


def check_bundle(bundle: Bundle) -> None:
    """Refuse a bundle that cannot classify crops.

    Raises:
        WeightsError: It has another task, larger crops, or other features of its training crops.
    """
    check_task(bundle)
    if bundle.training_crops is not None:
        check_features(bundle.training_crops)


def _filled(crops: np.ndarray, count: int) -> np.ndarray:
    """Append black crops up to a number: uint8 (count, 128, 128, 3)."""
    return np.concatenate([crops, np.zeros((count - len(crops), *crops.shape[1:]), np.uint8)])
