"""Every reader of outside data fuzzed for its share of some minutes: `python -m fuzz [--minutes 5] [READER …]`.

What was found interesting is kept under runs/fuzz and begun from at the next run; so is what a reader failed on.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from fuzz.readers import READERS

RUNS = Path("runs/fuzz")
SLOWEST_S = 10  # for one file; more is a hang
MEMORY_MB = 2048  # of the process: 1 GiB above what the libraries take


def fuzz(name: str, seconds: int) -> tuple[int, list[Path], str]:
    """Fuzz one reader; how many files it read, those that it failed on, and what was raised."""
    corpus, failures = RUNS / "corpus" / name, RUNS / "failures" / name
    for folder in (corpus, failures):
        folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(READERS[name].good()):
        (corpus / f"good-{number}").write_bytes(content)
    known = {*failures.iterdir()}
    options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MEMORY_MB}"]
    options += ["-print_final_stats=1", "-max_len=200000", f"-artifact_prefix={failures}/"]
    command = [sys.executable, "-m", "fuzz.harness", name, str(corpus), *options]
    limit_s = seconds + 10 * SLOWEST_S  # libFuzzer ends by itself, unless a reader holds it up beyond its own alarm
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return 0, [], f"it did not end within {limit_s} s"
    counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)|^#(\d+)", done.stderr, re.MULTILINE)
    n_runs = max((int(a or b) for a, b in counted), default=0)
    found = sorted({*failures.iterdir()} - known)
    said = done.stderr.partition("Uncaught Python exception")[2] or done.stderr[-2000:]
    tail = said.partition("==")[0].strip() or "ended" if done.returncode else ""
    return n_runs, found, tail


def main() -> int:
    """Print a line a reader; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Hostile files for every reader.")
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"all, or some of: {', '.join(READERS)}")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="for all readers together, beside their starts (%(default)s)"
    )
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
