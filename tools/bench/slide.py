"""What a slide costs: seconds a mm² of tissue, the networks' share of them, and memory; one process a slide.

    python -m tools.bench.slide CASE.tif --region PART.geojson --out tools/bench/results/slide.json

*cpu_s_a_mm2* is what the process used on all cores, start included: it says more than *s_a_mm2* where other programs
run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import torch

from mitoscope.provenance import read_commit
from tools.bench.result import print_result


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.slide", description=__doc__.splitlines()[0])
    parser.add_argument("slides", type=Path, nargs="+", metavar="SLIDE")
    parser.add_argument("--region", type=Path, metavar="FILE", help="GeoJSON: only this part of each slide's tissue")
    parser.add_argument(
        "--precisions", nargs="+", default=["auto"], metavar="P", help="each slide in each (default: auto)"
    )
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    runs = []
    for slide, precision in product(options.slides, options.precisions):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(slide, Path(folder), options.region, precision))
    commit, threads = read_commit(), torch.get_num_threads()
    print_result({"runs": runs, "threads": threads, "commit": commit, "torch": torch.__version__}, options.out)


def measure(slide: Path, out: Path, region: Path | None, precision: str) -> dict[str, Any]:
    """One process: the numbers of its summary.json, and what the system counted."""
    command = [sys.executable, "-m", "mitoscope", "slide", str(slide), "--out", str(out), "--device", "cpu"]
    command += ["--precision", precision, *(["--region", str(region)] if region else [])]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{slide.name}: exit code {process.returncode}")
    summary = json.loads((out / slide.name / "summary.json").read_bytes())
    run, size = summary["run"], summary["slide"]
    tissue_mm2 = run["new_tissue_mm2"]
    return {
        "slide": slide.name,
        "megapixels": round(size["width_px"] * size["height_px"] / 1e6),
        "precision": summary["mark"]["precision"],
        "tissue_mm2": tissue_mm2,
        "n_points": summary["n_points"],
        "n_mitotic_figures": summary["counts"]["n_mitotic_figures"],
        "s_a_mm2": round(run["seconds"] / tissue_mm2, 2),
        "cpu_s_a_mm2": round((used.ru_utime + used.ru_stime) / tissue_mm2, 2),
        "peak_memory_gb": round(used.ru_maxrss * 1024 / 1e9, 2),
        "run": run,
    }


if __name__ == "__main__":
    main()
