"""The same case and crops again and again: the same bytes, and how far other kernels of other processors are."""

import json
from pathlib import Path

from mitoscope.sockets import OUTPUT_NAME
from torture.inference import infer
from torture.predict import make_crops, predict
from torture.processes import ROOT, each

TOLERANCE = 1e-5  # of a confidence in fp32 on a CPU: ten times the difference that the guides name
# Two threads, and kernels that torch and oneDNN choose on processors without AVX2, or without AVX-512.
OTHERS = ("OMP_NUM_THREADS=2", "ATEN_CPU_CAPABILITY=default", "ONEDNN_MAX_CPU_ISA=SSE41", "ONEDNN_MAX_CPU_ISA=AVX2")
EXPECTED = ROOT / "test" / "expected" / "interf0" / OUTPUT_NAME


def repeat(count: int, _seed: int, workers: int, folder: Path) -> dict[str, int | float]:
    """Run inference.py `count` times, then with other kernels, and predict with one thread and two.

    Returns:
        Counts: ``cases``, ``same`` bytes among them; ``others`` and ``others_same`` with other kernels or threads, and
        the ``largest_difference`` of a confidence among all of them and from test/expected; ``predict_cases``; and
        ``wrong``: other bytes where they should be the same, or a difference above the tolerance.
    """

    def again(index: int) -> dict[str, int]:
        done = infer(folder / str(index)).code == 0
        same = done and _read(folder, index) == _read(folder, 0)
        return {"cases": 1, "same": same, "wrong": not same}

    infer(folder / "0")
    counts: dict[str, int | float] = {**each(again, count, workers)}
    differences = [_difference(_read(folder, 0), EXPECTED.read_bytes())]
    counts |= {"others": len(OTHERS), "others_same": 0}
    for other in OTHERS:
        infer(folder / other, environment=other)
        differences.append(_difference(_read(folder, 0), _read(folder, other)))
        counts["others_same"] += _read(folder, 0) == _read(folder, other)
    counts["largest_difference"] = max(differences)
    counts["tolerance"] = TOLERANCE
    counts["wrong"] += sum(difference > TOLERANCE for difference in differences)
    crops, outs = make_crops(folder / "crops"), [folder / f"{threads}.csv" for threads in (1, 2)]
    for threads, out in enumerate(outs, start=1):
        predict(crops, out, environment=f"OMP_NUM_THREADS={threads}")
    counts["predict_cases"] = len(outs)
    counts["wrong"] += outs[0].read_bytes() != outs[1].read_bytes()
    return counts


def _read(folder: Path, name: int | str) -> bytes:
    """One run's result."""
    return (folder / str(name) / OUTPUT_NAME).read_bytes()


def _difference(first: bytes, second: bytes) -> float:
    """The largest difference of a confidence; 1 where a class differs."""
    pages = list(zip(json.loads(first), json.loads(second), strict=True))
    if any(a["class"] != b["class"] for a, b in pages):
        return 1.0
    return max(abs(float(a["confidence"]) - float(b["confidence"])) for a, b in pages)
