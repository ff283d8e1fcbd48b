"""inference.py killed or stopped: the result in its folder is the old one or the new one, to the byte."""

import signal
import sys
from pathlib import Path

import numpy as np

from mitoscope.sockets import OUTPUT_NAME
from torture.processes import CASE, LITE, End, Moment, each, measure, run, spread, when

OLDER = b'[\n {\n  "class": "normal",\n  "confidence": 0.25\n }\n]\n'
AIMED = 3  # every third shot comes while the result is being written; by chance hardly one would
LONGEST_WRITE_S = 0.004
STOPPED = "stopped by a signal"
SOON_S = 0.5  # a process that runs on for longer has ignored the signal


def infer(output: Path, moment: Moment = lambda _: False, number: int = signal.SIGKILL, environment: str = "") -> End:
    """Score the fixture with weights/lite."""
    arguments = ("--input", CASE, "--output", output, "--weights", LITE, "--device", "cpu")
    return run("inference.py", *arguments, moment=moment, number=number, environment=environment)


def kill_inference(count: int, seed: int, workers: int, folder: Path, number: int = signal.SIGKILL) -> dict[str, int]:
    """Kill inference.py `count` times, then run it again wherever it left another file beside the result.

    Args:
        count: How often.
        seed: Of the moments: two of three are spread over the whole run, one comes while the result is written.
        workers: Processes at once.
        folder: Empty, for the results.
        number: The signal.

    Returns:
        Counts: ``cases``, ``hit`` (ended by the signal, not before it), ``old`` and ``new`` results, ``left_over``
        files beside them, ``run_again``; and ``wrong``: results that are neither, files that a second run did not
        remove, another last line on stderr, or an ignored signal.
    """
    seconds = measure(lambda worker: infer(folder / f"unbroken{worker}"), workers)
    new = (folder / "unbroken0" / OUTPUT_NAME).read_bytes()
    moments = spread(count, seconds, seed)
    delays_s = np.random.default_rng(seed).random(count) * LONGEST_WRITE_S

    def shoot(index: int) -> dict[str, int]:
        output = folder / str(index)
        output.mkdir()
        (output / OUTPUT_NAME).write_bytes(OLDER)
        partial = output / f".{OUTPUT_NAME}.partial"
        aimed = when(lambda: partial.exists() and partial.stat().st_size > 0, delays_s[index])
        end = infer(output, aimed if index % AIMED == 0 else moments[index], number)
        found = (output / OUTPUT_NAME).read_bytes()
        wrong = found not in (OLDER, new) or (end.code == 0 and (found == OLDER or end.stderr != ""))
        wrong |= number != signal.SIGKILL and end.code == 0 and end.after_s > SOON_S and STOPPED not in end.stdout
        last = (end.stderr.splitlines() or [""])[-1]
        wrong |= end.code not in (0, -number) and (found == new or not last.startswith(f"error: {STOPPED}"))
        left = len(list(output.iterdir())) > 1
        wrong |= left and end.code >= 0
        if left:
            wrong |= infer(output).code != 0 or [path.name for path in output.iterdir()] != [OUTPUT_NAME]
            wrong |= (output / OUTPUT_NAME).read_bytes() != new
        if wrong:
            print(f"wrong: {'new' if found == new else 'old' if found == OLDER else 'neither'}, {end}", file=sys.stderr)
        return {"cases": 1, "hit": end.code != 0, "old": found == OLDER, "new": found == new,
                "left_over": left, "run_again": left, "wrong": wrong}  # fmt: skip

    return each(shoot, count, workers)


def stop_inference(count: int, seed: int, workers: int, folder: Path) -> dict[str, int]:
    """`kill_inference` with SIGTERM: besides, nothing is left over."""
    return kill_inference(count, seed, workers, folder, signal.SIGTERM)
