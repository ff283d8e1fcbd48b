"""What a case costs the server beside its forward passes: whole requests and the passes alone, in turn.

    python -m tools.bench.invoke --weights weights/lite

The server is serve.py in a process of its own. *request* is one POST /invoke, from the first byte sent to the answer;
*predict* is `Classifier.predict_members` on the same crops in this process; *forward* the five networks alone, on a
tensor that is ready on the device. The first round is left out: no first case counts.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import torch

from mitoscope.classify.classifier import Classifier
from mitoscope.classify.preprocess import preprocess
from mitoscope.classify.selftest import clock
from mitoscope.images.crops import find_stack, read_stack
from mitoscope.memory import keep_freed_memory
from mitoscope.networks.device import DTYPES
from mitoscope.provenance import describe_machine, read_commit
from model.classification import IMAGES_FOLDER
from tools.bench.result import print_result

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.invoke", description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, default=ROOT / "test/input/interf0", help="a case (%(default)s)")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights/lite", help="(%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    print_result(measure(options.input, options.weights, options.device, options.rounds), options.out)


def measure(case: Path, weights: Path, device: str, n_rounds: int) -> dict[str, Any]:
    """Median seconds of a request and of its forward passes, and what they were measured on.

    The ratios are medians of each round's own: what else the machine does changes from round to round.
    """
    keep_freed_memory()  # as the server does
    crops = read_stack(find_stack(case / IMAGES_FOLDER, root=case))
    classifier = Classifier.load(weights, device=device)
    images = preprocess(crops, classifier.bundle.input, classifier.device).to(DTYPES[classifier.precision])

    @torch.inference_mode()
    def forward() -> None:
        torch.stack([member(images) for member in classifier.members]).cpu()  # waits for the GPU

    with serving(case, weights, device) as request:
        works = {"request": request, "predict": lambda: classifier.predict_members(crops), "forward": forward}
        rounds = [{name: clock(work) for name, work in works.items()} for _ in range(n_rounds + 1)][1:]
    return {
        "bundle": f"{classifier.bundle.name}: {len(classifier.members)} x {classifier.bundle.architecture}",
        "crops": len(crops),
        "rounds": n_rounds,
        "device": classifier.device.type,
        "precision": classifier.precision,
        "threads": torch.get_num_threads(),
        "median_s": {name: statistics.median(spent[name] for spent in rounds) for name in works},
        "request_over_predict": statistics.median(spent["request"] / spent["predict"] for spent in rounds),
        "request_over_forward": statistics.median(spent["request"] / spent["forward"] for spent in rounds),
        "machine": describe_machine(),
        "torch": torch.__version__,
        "commit": read_commit(),
    }


@contextmanager
def serving(case: Path, weights: Path, device: str) -> Iterator[Callable[[], None]]:
    """A server for one case; yields what sends a request and waits for its answer."""
    command = [sys.executable, "serve.py", "--host", "127.0.0.1", "--port", "0", "--device", device]
    with tempfile.TemporaryDirectory() as output:
        folders = ["--input", str(case.resolve()), "--output", output, "--weights", str(weights.resolve())]
        log = Path(output).with_suffix(".log")
        with log.open("w") as file, subprocess.Popen([*command, *folders], cwd=ROOT, stdout=file) as server:
            try:
                yield _requester(log, server)
            finally:
                server.terminate()
        log.unlink()


def _requester(log: Path, server: "subprocess.Popen[bytes]") -> Callable[[], None]:
    """Wait for the server and learn its port from its log."""
    while "serving" not in log.read_text():
        if server.poll() is not None:
            raise SystemExit("the server did not start, see above")
        time.sleep(0.1)
    port = int(log.read_text().split()[1].rpartition(":")[2])

    def request() -> None:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/invoke")
        status = connection.getresponse().status
        connection.close()
        if status != 201:
            raise SystemExit(f"the server said {status}, see above")

    return request


if __name__ == "__main__":
    main()
