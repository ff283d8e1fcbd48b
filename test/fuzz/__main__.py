"""Fuzz every reader of outside data: `PYTHONPATH=.:test python -m fuzz [--minutes 5] [READER …]`.

Interesting files and failures are kept under runs/fuzz; the next run starts from them.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from fuzz.readers import READERS

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path("runs/fuzz")
SLOWEST_S = 10  # for one file; more is a hang
MEMORY_MB = 2048  # of the process: 1 GiB above what the libraries take


def fuzz(name: str, seconds: int) -> tuple[int, list[Path], str]:
    """Fuzz one reader; returns the number of files, those that it failed on, and the error."""
    corpus, failures = RUNS / "corpus" / name, RUNS / "failures" / name
    for folder in (corpus, failures):
        folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(READERS[name].good()):
        (corpus / f"good-{number}").write_bytes(content)
    known = {*failures.iterdir()}
    options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MEMORY_MB}"]
    options += ["-print_final_stats=1", "-max_len=200000", f"-artifact_prefix={failures}/"]
    command = [sys.executable, "-m", "fuzz.harness", name, str(corpus), *options]
    limit_s = seconds + 10 * SLOWEST_S  # libFuzzer ends by itself, unless a reader blocks its alarm
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'test'}"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return 0, [], f"it did not end within {limit_s} s"
    counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)|^#(\d+)", done.stderr, re.MULTILINE)
    n_runs = max((int(a or b) for a, b in counted), default=0)
    found = sorted({*failures.iterdir()} - known)
    error = done.stderr.partition("Uncaught Python exception")[2] or done.stderr[-2000:]
    tail = error.partition("==")[0].strip() or "ended" if done.returncode else ""
    return n_runs, found, tail


def main() -> int:
    """Print one line per reader; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Hostile files for every reader.")
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"all, or some of: {', '.join(READERS)}")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all readers together (default %(default)s)")
    options = parser.parse_args()
    if unknown := [name for name in options.readers if name not in READERS]:
        parser.error(f"unknown readers {unknown}; known are {', '.join(READERS)}")
    names, failed = options.readers or list(READERS), False
    for name in names:
        n_runs, found, tail = fuzz(name, max(1, round(60 * options.minutes / len(names))))
        failed |= bool(found or tail)
        verdict = ", ".join(map(str, found)) or ("ended" if tail else "ok")
        print(f"{name:12s} {n_runs:9,} files  {verdict}", *([tail] if tail else []), sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
