"""Whether the report's maps show what matters: blur what a map marks, and see how far the answer moves.

    python -m tools.bench.saliency --crops AtNorM-Br --weights weights/lite

An eighth of the cells of each crop's Grad-CAM is blurred: those with the largest values of either sign, which the
report shows, those with the smallest, as many at random, and both ends of the signed map: the highest and the lowest.
A map that shows where the networks look moves the logit most with the largest.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from mitoscope.classify.classifier import Classifier
from mitoscope.classify.listing import list_crops, read_blocks
from mitoscope.images import CROP_PX
from mitoscope.provenance import describe_machine, read_commit
from mitoscope.scoring.report.saliency import Saliency
from tools.bench.result import print_result

SHARE, SIGMA_PX = 1 / 8, 6.0


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.saliency", description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=Path, nargs="+", required=True, metavar="PATH")
    parser.add_argument("--weights", type=Path, metavar="DIR")
    parser.add_argument("--every", type=int, default=5, metavar="N", help="take each N-th crop (%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    listing = list_crops(options.crops)
    crops = np.concatenate([block.crops for block in read_blocks(listing, 256)])[:: options.every]
    classifier = Classifier.load(options.weights)
    maps = Saliency(classifier).maps(crops)
    called = classifier.predict_proba(crops) >= classifier.bundle.threshold.value
    flat = maps.reshape(len(maps), -1)
    size, value = (each.argsort(axis=1).argsort(axis=1) for each in (np.abs(flat), flat))  # (N, cells), 0 is the lowest
    n_cells = flat.shape[1]
    few = int(SHARE * n_cells)
    chance = np.random.default_rng(0).permuted(size, axis=1)
    chosen = {
        **{"largest": size >= n_cells - few, "smallest": size < few, "random": chance < few},
        **{"highest": value >= n_cells - few, "lowest": value < few},
    }
    result = {
        "n_crops": len(crops),
        "bundle": classifier.bundle.name,
        "cells": list(maps.shape[1:]),
        "mean_change_of_logit": {
            name: _measure(classifier, crops, mask.reshape(maps.shape)) for name, mask in chosen.items()
        },
        "mean_of_map_is_positive": {
            name: float((maps.mean(axis=(1, 2)) > 0)[rows].mean())
            for name, rows in (("called atypical", called), ("called normal", ~called))
        },
        "commit": read_commit(),
        "machine": describe_machine(),
    }
    print_result(result, options.out)


def _measure(classifier: Classifier, crops: np.ndarray, mask: np.ndarray) -> float:
    """The mean size of the logit's change when the cells of a mask (N, H, W) are blurred."""
    side_px = classifier.bundle.input.crop_px
    edge_px = (CROP_PX - side_px) // 2
    seen = slice(edge_px, edge_px + side_px)
    blurred = ndimage.gaussian_filter(crops.astype(np.float32), (0, SIGMA_PX, SIGMA_PX, 0)).astype(np.uint8)
    cells = np.arange(side_px) * mask.shape[1] // side_px  # the cell of each pixel
    covered = crops.copy()
    square = mask[:, cells][:, :, cells][..., None]
    covered[:, seen, seen] = np.where(square, blurred[:, seen, seen], crops[:, seen, seen])
    before, after = (_logit(classifier.predict_proba(pixels)) for pixels in (crops, covered))
    return float(np.abs(after - before).mean())


def _logit(p: np.ndarray) -> np.ndarray:
    """The logit of probabilities."""
    logit: np.ndarray = np.log(p) - np.log1p(-p)
    return logit


if __name__ == "__main__":
    main()
