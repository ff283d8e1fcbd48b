"""Detectors on a region: a whole process, and the networks beside another detector and the rate of a matrix product.

    python -m tools.bench.detect --weights weights/detector-lite --against fcos_tf_efficientnet_lite0
    python -m tools.bench.detect --architecture rtmdet_s --mpp 0.25 --against torchvision

*process* is `mitoscope detect` from its start to its files. *networks* times tiles in one process and in turn, from
their pixels to their points. ``--against torchvision`` is torchvision's `fcos_resnet50_fpn` as its users run it, on
the same pixels; other names are those of `build_detector`, run by the same code as ours. Networks that are named have
random weights and find nothing. Medians of all rounds but the first; ratios are medians of each round's own.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Bundle, Member, Threshold
from mitoscope.bundle.members import write_bundle
from mitoscope.classify.selftest import clock
from mitoscope.detect.detector import Detector
from mitoscope.detect.tiles import Tile
from mitoscope.images.slide import Slide, open_slide
from mitoscope.memory import keep_freed_memory
from mitoscope.networks.build import build_detector
from mitoscope.networks.device import DTYPES
from mitoscope.provenance import describe_machine, read_commit
from tools.bench import limits
from tools.bench.result import print_result
from tools.bench.speed import run

SIZE_PX, MPP = (6400, 5000), 0.25  # 1.6 x 1.25 mm
TORCHVISION = "torchvision"
UNLIKELY = -8.0  # logit of a random network's figures: none is found, as in most tiles of tissue
Work = Callable[[np.ndarray], object]  # a tile's pixels, uint8 (H, W, 3)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.detect", description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, metavar="DIR", help="a bundle")
    source.add_argument("--architecture", help="random weights, see build_detector")
    parser.add_argument("--mpp", type=float, default=0.25, help="of --architecture (%(default)s)")
    parser.add_argument("--tile-px", type=int, default=1024, help="of --architecture (%(default)s)")
    parser.add_argument("--against", metavar="NAME", help=f"{TORCHVISION}, or an architecture")
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--size-px", type=int, nargs=2, default=SIZE_PX, metavar="N", help="of the region (%(default)s)"
    )
    parser.add_argument("--tiles", type=int, default=2, help="that each network sees in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    print_result(measure(options), options.out)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of one detector."""
    keep_freed_memory()
    width, height = options.size_px
    with tempfile.TemporaryDirectory() as name:
        region = draw_region(Path(name) / "region.tiff", width, height)
        weights = options.weights or make_bundle(
            Path(name) / "random", options.architecture, InputSpec(size_px=options.tile_px, mpp=options.mpp)
        )
        whole = measure_process(options, region, weights, Path(name) / "out")
        detector = Detector.load(weights, device="cpu", precision=options.precision)
        networks = measure_networks(options, detector, open_slide(region), Path(name))
    bundle = detector.bundle
    return {
        "detector": f"{len(bundle.members)} x {bundle.architecture}" + ("" if options.weights else ", random weights"),
        "input": {"mpp": bundle.input.mpp, "tile_px": bundle.input.size_px},
        "region": {"width_px": width, "height_px": height, "mpp": MPP, "mm2": width * height * MPP**2 / 1e6},
        "device": "cpu",
        "precision": detector.precision,
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "process": whole,
        **networks,
        "machine": describe_machine(),
        "torch": torch.__version__,
        "commit": read_commit(),
    }


def draw_region(path: Path, width: int, height: int) -> Path:
    """Write smooth random tissue as a TIFF of strips in JPEG, with its µm per px."""
    coarse = np.random.default_rng(0).integers((150, 60, 130), (255, 200, 240), (height // 20, width // 20, 3))
    pixels = Image.fromarray(coarse.astype(np.uint8)).resize((width, height))
    pixels.save(path, compression="jpeg", dpi=(25_400 / MPP, 25_400 / MPP))
    return path


def make_bundle(folder: Path, architecture: str, spec: InputSpec) -> Path:
    """Write a bundle of one network with random weights that finds nothing."""
    torch.manual_seed(0)
    network = build_detector(architecture, 1)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.startswith(network.class_layers) and name.endswith("bias"):
            tensor.fill_(UNLIKELY)
    state = {name: tensor.contiguous().clone() for name, tensor in state.items()}  # grids share convolutions
    spec = InputSpec(**{**asdict(spec), "crop_px": spec.size_px})
    bundle = Bundle(
        folder=folder, name=folder.name, architecture=architecture, input=spec, task="detect",
        threshold=Threshold(0.5, "fixed", "nothing", 0), members=(Member("fold0.safetensors", "", fold=0),),
        classes=("mitotic figure",),
    )  # fmt: skip
    write_bundle(bundle, [state])
    return folder


def measure_process(options: argparse.Namespace, region: Path, weights: Path, out: Path) -> dict[str, float]:
    """`mitoscope detect`: seconds and peak resident memory, medians."""
    arguments = ["-m", "mitoscope", "detect", str(region), "--weights", str(weights.resolve()), "--out", str(out)]
    arguments += ["--device", "cpu", "--precision", options.precision]
    rounds = [run(arguments, lambda _: {}) for _ in range(options.rounds + 1)][1:]
    return {f"median_{key}": statistics.median(each[key] for each in rounds) for key in ("process", "peak_mib")}


def measure_networks(options: argparse.Namespace, detector: Detector, slide: Slide, scratch: Path) -> dict[str, Any]:
    """Seconds of some tiles by each network, in turn; what they are of a region, and of the matrix rate."""
    tiles = detector.plan(slide)
    some = [detector.read(slide, tile) for tile in tiles[: options.tiles]]
    flops = len(detector.members) * count_flops(detector.bundle.architecture, some[0].shape)
    networks = {"ours": (_scanner(detector, tiles[0]), flops)}
    if options.against:
        networks["against"] = load_other(options, detector, some[0], tiles[0], scratch)
    rounds = [
        {name: clock(lambda w=work: [w(pixels) for pixels in some]) for name, (work, _) in networks.items()}  # type: ignore[misc]
        for _ in range(options.rounds + 1)
    ][1:]
    rates = limits.measure_rates(DTYPES[detector.precision], detector.device)
    result: dict[str, Any] = {"limits": rates, "networks": {}}
    for name, (_, flops) in networks.items():
        seconds, gflop = statistics.median(each[name] for each in rounds) / len(some), flops / 1e9
        result["networks"][name] = {
            "gflop_a_tile": gflop,
            "s_a_tile": seconds,
            "n_tiles": len(tiles),
            "s_a_region": seconds * len(tiles),
            "share_of_matrix_rate": gflop / seconds / rates["matrix_gflops"],
        }
    if options.against:
        result["networks"]["against"]["name"] = options.against
        result["against_over_ours"] = statistics.median(each["against"] / each["ours"] for each in rounds)
    return result


def _scanner(detector: Detector, tile: Tile) -> Work:
    """A tile through a detector, to its points."""
    return lambda pixels: detector.scan([tile], [pixels])


def load_other(
    options: argparse.Namespace, detector: Detector, pixels: np.ndarray, tile: Tile, scratch: Path
) -> tuple[Work, float]:
    """The other detector for tiles of the same size, and its floating-point operations for one."""
    if options.against != TORCHVISION:
        folder = make_bundle(scratch / "against", options.against, detector.bundle.input)
        other = Detector.load(folder, device="cpu", precision=options.precision)
        return _scanner(other, tile), count_flops(options.against, pixels.shape)
    from torchvision.models.detection import fcos_resnet50_fpn

    sides = {"min_size": min(pixels.shape[:2]), "max_size": max(pixels.shape[:2])}
    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, **sides).eval()
    nn.init.constant_(model.head.classification_head.cls_logits.bias, UNLIKELY)

    @torch.inference_mode()
    def work(tile_pixels: np.ndarray) -> object:
        return model([torch.as_tensor(tile_pixels.copy()).permute(2, 0, 1).float() / 255])

    with FlopCounterMode(display=False) as counter:
        work(pixels)
    return work, float(counter.get_total_flops())


def count_flops(architecture: str, shape: tuple[int, ...]) -> float:
    """Floating-point operations of one network for a tile; a multiplication and an addition are two."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_detector(architecture, 1).eval()(torch.empty(1, 3, *shape[:2]))
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
