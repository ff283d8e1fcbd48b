"""The cold start of this checkout against another one's, in turn, in one run.

    git worktree add /tmp/former COMMIT
    python -m tools.bench.start --against /tmp/former

One round is one whole process of each `inference.py` on the same case and the same weights, from its start to its exit.
The ratio is the median of the rounds' own ratios, because the machine's speed changes from round to round. The first
round is not counted.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mitoscope.provenance import describe_machine, read_commit
from tools.bench.result import print_result

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.start", description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, required=True, metavar="DIR", help="the other checkout")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "lite", metavar="DIR")
    parser.add_argument("--input", type=Path, default=ROOT / "test" / "input" / "interf0", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=9, help="(default %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    print_result(measure(options.against, options.weights, options.input, options.rounds), options.out)


def measure(other: Path, weights: Path, case: Path, n_rounds: int) -> dict[str, Any]:
    """Start both checkouts' `inference.py` in turn; seconds and their ratio."""
    with tempfile.TemporaryDirectory() as output:
        arguments = ["--input", case.resolve(), "--output", output, "--weights", weights.resolve(), "--device", "cpu"]
        rounds = [(_time(ROOT, arguments), _time(other, arguments)) for _ in range(n_rounds + 1)][1:]
    return {
        "rounds": n_rounds,
        "median_s": statistics.median(ours for ours, _ in rounds),
        "other_median_s": statistics.median(theirs for _, theirs in rounds),
        "median_ratio": statistics.median(ours / theirs for ours, theirs in rounds),
        "ratios": [ours / theirs for ours, theirs in rounds],
        "machine": describe_machine(),
        "commit": read_commit(),
    }


def _time(root: Path, arguments: list[Any]) -> float:
    """Seconds of one process."""
    started = time.perf_counter()
    command = [sys.executable, "inference.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"inference.py in {root} ended with status {done.returncode}: {done.stderr}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
