"""An image of tissue → its mitotic figures, by an ensemble of detectors; the only way from pixels to points."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from mitoscope.bundle.find import find_bundle
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.members import parse_member
from mitoscope.bundle.read import read_ahead, read_bundle
from mitoscope.detect.points import keep_distinct, merge_points
from mitoscope.detect.task import DEFAULTS, check_task
from mitoscope.detect.tiles import Tile, plan_tiles
from mitoscope.errors import DeviceError, InputError
from mitoscope.images.density import Measure, apply_table, make_table, measure_density, read_windows, spread
from mitoscope.images.slide import Slide
from mitoscope.networks.build import restore_detector
from mitoscope.networks.device import DTYPES, choose_device, choose_precision
from mitoscope.networks.members import out_of_memory, place_members
from mitoscope.networks.rtmdet import flatten_grids
from mitoscope.networks.views import ORIENTATIONS, normalise, turn, turn_points_back

FORWARD_TILES = {"cpu": 1, "cuda": 4}  # in one forward pass
SAME_FIGURE_UM = 7.5  # points that are nearer mean one figure: the radius within which the challenge calls it found
CANDIDATE = 0.01  # least probability of one network's point that can vote; a missing one counts as 0
FLOOR = 0.05  # least probability of a figure in the result
SLACK_PX = 8  # that a point may lie outside of its tile's core: one network may place a figure differently in two tiles
DARKEST_GLASS = 200  # a tile without a darker value is empty: each of 419 labelled figures has one of 38 or less


class Detector:
    """The members of one bundle on one device.

    Attributes:
        bundle: The manifest.
        device: Where the members are.
        precision: ``"fp32"``, ``"fp16"`` or ``"bf16"``.
    """

    def __init__(
        self, bundle: Bundle, members: Sequence[nn.Module], device: torch.device, precision: str, *, tta: bool = False
    ) -> None:
        self.bundle, self.device, self.precision = bundle, device, precision
        self._tables: WeakKeyDictionary[Slide, np.ndarray] = WeakKeyDictionary()
        self.members = tuple(members)  # each as `mitoscope.networks.rtmdet.RTMDet`
        every = tuple(range(ORIENTATIONS))
        seen = [every if tta else member.orientations or (0,) for member in bundle.members]
        self._voters = [(network, view) for network, views in zip(self.members, seen, strict=True) for view in views]

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        tta: bool = False,
        for_slides: bool = False,
    ) -> "Detector":
        """Read, verify and place the members.

        Args:
            weights: The bundle's folder; None: see `mitoscope.bundle.find.find_bundle`, the last of them
                weights/detector-lite.
            device: ``"auto"`` (the GPU when there is one), ``"cpu"`` or ``"cuda"``.
            precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"auto"``, see
                `mitoscope.networks.device.choose_precision`.
            tta: Each member sees a tile in all eight orientations; otherwise in those that the manifest gives.
            for_slides: See `mitoscope.networks.device.choose_precision`.

        Raises:
            WeightsError: The bundle is missing, broken, or made for another task.
            DeviceError: This machine lacks the device or the precision, or the GPU's memory is full.
        """
        bundle = read_bundle(find_bundle(None if weights is None else Path(weights), DEFAULTS))
        where = choose_device(device)
        chosen = choose_precision(precision, where, bundle, for_slides=for_slides)
        return cls.place(bundle, read_ahead(bundle), where, chosen, tta=tta)

    @classmethod
    def place(
        cls, bundle: Bundle, contents: Iterator[bytes], device: torch.device, precision: str, *, tta: bool = False
    ) -> "Detector":
        """Place a bundle whose members are already being read; see `load` and `Classifier.place`."""
        states = (
            parse_member(content, str(bundle.folder / member.file))
            for member, content in zip(bundle.members, contents, strict=True)
        )
        return cls.restore(bundle, states, device, precision, tta=tta)

    @classmethod
    def restore(
        cls, bundle: Bundle, states: Iterable[Mapping[str, Tensor]], device: torch.device, precision: str, *, tta: bool
    ) -> "Detector":
        """Place a bundle whose members are tensors in memory.

        Raises:
            WeightsError: See `mitoscope.detect.task.check_task`.
        """
        check_task(bundle)

        def build(state: Mapping[str, Tensor], path: str) -> nn.Module:
            return restore_detector(bundle.architecture, len(bundle.classes), state, path)

        return cls(bundle, place_members(bundle, states, build, device, precision), device, precision, tta=tta)

    @property
    def threshold(self) -> float:
        """A point is a mitotic figure when its probability is at least this."""
        return self.bundle.threshold.value

    def alone(self, number: int) -> "Detector":
        """The same detector with one of its members."""
        bundle = replace(self.bundle, members=(self.bundle.members[number],))
        return Detector(bundle, [self.members[number]], self.device, self.precision)

    def plan(self, slide: Slide) -> list[Tile]:
        """The tiles of an image, in pixels of the bundle's µm per px.

        Raises:
            InputError: The image's pixels are too large or too small for these networks.
        """
        return plan_tiles(*slide.measure(self.bundle.input.mpp), self.bundle.input.size_px)

    def detect(
        self, slide: Slide, *, floor: float = FLOOR, update: Callable[[int], object] = lambda n_tiles: None
    ) -> np.ndarray:
        """Find the figures of the positive class.

        Args:
            slide: The image; read tile by tile.
            floor: The least probability of a point in the result, above 0.
            update: Called after each batch with the number of its tiles.

        Returns:
            float64 (N, 3): x and y in pixels of level 0, and the probability in [floor, 1]; the most probable first. A
            place is a continuous coordinate: the first pixel covers [0, 1). A point up to `SLACK_PX` outside of the
            image is put on its border; others outside are not figures.

        Raises:
            InputError: The image is damaged, or its pixels are too large or too small for these networks.
            DeviceError: The GPU's memory is too small, or an output is not a finite number.
        """
        tiles, at_once = self.plan(slide), FORWARD_TILES[self.device.type]
        found = [np.empty((0, 4))]
        for number in range(0, len(tiles), at_once):
            batch = tiles[number : number + at_once]
            found += self.scan(batch, [self.read(slide, tile) for tile in batch], floor)
            update(len(batch))
        return self.merge(slide, np.concatenate(found), floor)

    def read(self, slide: Slide, tile: Tile) -> np.ndarray:
        """A tile's pixels as the networks see them: uint8 (H, W, 3); raises InputError if they are damaged."""
        pixels = self._read(slide, tile.x.start, tile.y.start, tile.x.size, tile.y.size)
        return apply_table(pixels, self._find_table(slide)) if self.bundle.input.density_mean else pixels

    def _read(self, slide: Slide, left: int, top: int, width: int, height: int) -> np.ndarray:
        """A box of an image, at the bundle's µm per px."""
        return slide.read(left, top, width, height, self.bundle.input.mpp, self.bundle.input.interpolation)

    def measure(self, slide: Slide, mask: np.ndarray, mask_mpp: float) -> Measure | None:
        """Measure the optical density of a slide in its tissue alone; `read` then uses it for all of the slide.

        Without a call of it, `read` measures in windows that are spread over the whole image.

        Args:
            slide: The slide.
            mask: bool (H, W), where its tissue is; the first pixel lies at the slide's upper left corner.
            mask_mpp: µm per px of the mask.

        Returns:
            What was found; None if the bundle names no density, and `read` leaves pixels as they are.

        Raises:
            InputError: The file is gone, or see `plan`.
        """
        if not self.bundle.input.density_mean:
            return None
        scale = slide.measure_scale(self.bundle.input.mpp)
        centres = spread(mask) * mask_mpp / np.multiply((slide.mpp.x, slide.mpp.y), scale)
        return self._measure(slide, centres)

    def _find_table(self, slide: Slide) -> np.ndarray:
        """What brings this image's tissue to the density of the training slides, measured once an image."""
        if slide not in self._tables:
            self._measure(slide)
        return self._tables[slide]

    def _measure(self, slide: Slide, centres: np.ndarray | None = None) -> Measure:
        """Make a slide's table from its windows; see `mitoscope.images.density.read_windows` for their centres.

        Damaged windows are left out of the measure; a tile with damaged pixels is refused by `read`.
        """
        spec, n_windows, n_unread = self.bundle.input, 0, 0

        def read_window(*box: int) -> np.ndarray:
            nonlocal n_windows, n_unread
            n_windows += 1
            try:
                return self._read(slide, *box)
            except InputError:
                slide.check_exists()
                n_unread += 1
                return np.empty((0, 0, 3), np.uint8)

        density = measure_density(read_windows(read_window, *slide.measure(spec.mpp), centres))
        self._tables[slide] = make_table(density, spec.density_mean, spec.density_std)
        return Measure(density, n_windows, n_unread)

    def scan(self, tiles: Sequence[Tile], pixels: Sequence[np.ndarray], floor: float = FLOOR) -> list[np.ndarray]:
        """Find the candidates of some tiles.

        Args:
            tiles: Of `plan`, `FORWARD_TILES` of them at most.
            pixels: Of each, see `read`.
            floor: See `detect`.

        Returns:
            float64 (N, 4) for each tile: the voter (a member in one orientation), x and y in pixels of the bundle's µm
            per px, and the probability; for `merge`.

        Raises:
            DeviceError: See `detect`.
        """
        radius = SAME_FIGURE_UM / self.bundle.input.mpp
        found: list[list[np.ndarray]] = [[np.empty((0, 4))] for _ in tiles]
        shown = [number for number, each in enumerate(pixels) if each.min() < DARKEST_GLASS]
        if shown:
            candidates = self._find_candidates([tiles[k] for k in shown], [pixels[k] for k in shown], floor)
            for voter, number, points in candidates:
                kept = _keep_core(keep_distinct(points, radius), tiles[shown[number]])
                found[shown[number]].append(np.column_stack([np.full(len(kept), voter), kept]))
        return [np.concatenate(each) for each in found]

    def merge(self, slide: Slide, candidates: np.ndarray, floor: float = FLOOR) -> np.ndarray:
        """Make figures of the candidates of an image's tiles.

        Args:
            slide: The image.
            candidates: float64 (N, 4), those of all tiles in any order; see `scan`.
            floor: See `detect`.

        Returns:
            As `detect`.
        """
        radius, scale = SAME_FIGURE_UM / self.bundle.input.mpp, slide.measure_scale(self.bundle.input.mpp)
        merged = merge_points(candidates[:, 1:], candidates[:, 0].astype(int), len(self._voters), radius)
        merged[:, :2] = merged[:, :2].clip(0, np.divide((slide.width_px, slide.height_px), scale))
        points = keep_distinct(merged[merged[:, 2] >= floor], radius)
        points[:, :2] *= scale
        return points

    @torch.inference_mode()
    def _find_candidates(
        self, tiles: Sequence[Tile], pixels: Sequence[np.ndarray], floor: float
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Every voter's points in every tile: the numbers of both, float64 (N, 3) in pixels of the networks."""
        try:
            images = torch.as_tensor(np.stack(pixels)).to(self.device).permute(0, 3, 1, 2).float() / 255
            images = normalise(images, self.bundle.input).to(DTYPES[self.precision])
            for voter, (network, view) in enumerate(self._voters):
                logits, boxes, _ = flatten_grids(*network(turn(images, view)))
                p, centres = logits[..., -1].double().sigmoid(), (boxes[..., :2] + boxes[..., 2:]) / 2
                if not (torch.isfinite(p).all() and torch.isfinite(centres).all()):
                    raise _not_finite(self.precision, self.device)
                for number, tile in enumerate(tiles):
                    chosen = p[number] >= min(CANDIDATE, floor)
                    places = turn_points_back(centres[number][chosen].double(), view, pixels[0].shape[:2])
                    points = torch.cat([places, p[number][chosen, None]], dim=1).cpu().numpy()
                    points[:, :2] += tile.x.start, tile.y.start
                    yield voter, number, points
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self.device, error, f"{len(tiles)} tiles of {self.bundle.input.size_px} px") from error


def _keep_core(points: np.ndarray, tile: Tile) -> np.ndarray:
    """The points in a tile's core, or hardly outside of it."""
    inside = [
        (axis.low - SLACK_PX <= points[:, k]) & (points[:, k] < axis.high + SLACK_PX)
        for k, axis in enumerate((tile.x, tile.y))
    ]
    return points[inside[0] & inside[1]]


def _not_finite(precision: str, device: torch.device) -> DeviceError:
    """The error for outputs that are NaN or infinite."""
    return DeviceError(
        "the networks' outputs are not finite",
        got=f"overflow in {precision} on {device}",
        expected="finite values",
        remedy="run again with --precision fp32",
    )
