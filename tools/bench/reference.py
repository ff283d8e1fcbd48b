"""The yardstick: the same five networks, run as the organisers' reference container runs its one.

    python -m tools.bench.reference --input CASE --output RESULT --weights PICKLES

fp32 pickles by ``torch.load``, timm's modules in the default layout, every page resized by PIL and normalised by
itself, batch 1, one member after another, the result written by ``json.dump``. It checks nothing. Written from scratch,
and used for nothing else; `tools.bench.bundles` makes its pickles. Its last line is its seconds by stage, as JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

SETTINGS = "settings.json"  # beside the pickles: architecture, threshold and the manifest's input


def load_networks(folder: Path, device: str) -> tuple["list[nn.Module]", dict[str, Any]]:
    """The networks of all pickles in a folder, and its settings."""
    import timm
    import torch

    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    networks = []
    for path in sorted(folder.glob("*.pth")):
        network = timm.create_model(settings["architecture"], pretrained=False, num_classes=1)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        networks.append(network.to(device).eval())
    return networks, settings


def predict_proba(
    networks: "list[nn.Module]", settings: dict[str, Any], crops: "np.ndarray", device: str
) -> "list[float]":
    """P(atypical) of uint8 (N, 128, 128, 3) crops, one at a time."""
    import numpy as np
    import torch
    from PIL import Image

    spec, probabilities = settings["input"], []
    edge = (crops.shape[1] - spec["crop_px"]) // 2
    for crop in crops:
        inner = Image.fromarray(crop).crop((edge, edge, edge + spec["crop_px"], edge + spec["crop_px"]))
        resized = inner.resize((spec["size_px"], spec["size_px"]), Image.Resampling.BICUBIC)
        scaled = (np.asarray(resized, dtype=np.float32) / 255 - spec["mean"]) / spec["std"]
        image = torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1).unsqueeze(0).contiguous().to(device)
        with torch.no_grad():
            members = [torch.sigmoid(network(image)).item() for network in networks]
        probabilities.append(sum(members) / len(members))
    return probabilities


def main() -> None:
    """Score one case and print the seconds."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.reference", description=__doc__.splitlines()[0])
    for name in ("--input", "--output", "--weights"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    marks = [time.perf_counter()]
    import numpy as np
    import timm  # noqa: F401 - its time counts
    import torch  # noqa: F401 - its time counts
    from PIL import Image, ImageSequence

    marks.append(time.perf_counter())
    networks, settings = load_networks(options.weights, options.device)
    marks.append(time.perf_counter())
    (path,) = options.input.glob("images/*/*.tif*")
    with Image.open(path) as image:
        crops = np.stack([np.asarray(page.convert("RGB")) for page in ImageSequence.Iterator(image)])
    marks.append(time.perf_counter())
    probabilities = predict_proba(networks, settings, crops, options.device)
    marks.append(time.perf_counter())
    names = ("normal", "atypical")
    records = [{"class": names[p >= settings["threshold"]], "confidence": p} for p in probabilities]
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "multiple-mitotic-figure-classification.json").open("w") as file:
        json.dump(records, file)
    marks.append(time.perf_counter())
    stages = ("imports", "weights", "read", "forward", "write")
    print(json.dumps({stage: after - before for stage, before, after in zip(stages, marks, marks[1:], strict=False)}))


if __name__ == "__main__":
    main()
