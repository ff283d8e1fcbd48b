import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, folder: Path, *arguments: str | Path) -> dict[str, Any]:
    """Run a benchmark as its own process; gives its JSON, which it prints and writes."""
    command = [sys.executable, "-m", module, *map(str, arguments), "--out", str(folder / "result.json")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert json.loads(done.stdout) == result
    assert {"machine", "commit"} <= result.keys()
    return result


def test_training_is_measured_against_its_bare_network(tmp_path: Path) -> None:
    given = ("--preset", "smoke", "--set", "architecture=test_resnet", "--crops", "40", "--steps", "2", "--rounds", "1")
    result = run("bench.training", tmp_path, *given)
    assert result["share"] == result["whole_step_crops_per_s"] / result["bare_network_crops_per_s"] > 0
    assert {"torch", "device"} <= result.keys()


def test_a_servers_request_is_measured_against_its_forward_passes(tmp_path: Path, tiny_bundle: Path) -> None:
    result = run("bench.invoke", tmp_path, "--weights", tiny_bundle, "--device", "cpu", "--rounds", "1")
    seconds = result["median_s"]
    assert result["request_over_forward"] == seconds["request"] / seconds["forward"] > 0
    assert result["crops"] == 16
    assert {"torch", "device", "precision"} <= result.keys()


def test_memory_is_told_for_each_number_of_crops(tmp_path: Path) -> None:
    result = run("bench.memory", tmp_path, "--crops", "20", "90")
    assert [one["crops"] for one in result["runs"]] == [20, 90]
    assert all(50 < one["peak_mib"] < 8000 for one in result["runs"])
    assert result["largest_over_smallest"] >= 1


def test_the_maps_are_judged_by_what_blurring_does(tmp_path: Path, scored_crops: Path, tiny_bundle: Path) -> None:
    given = ("--crops", scored_crops / "crops", "--weights", tiny_bundle, "--every", "10")
    result = run("bench.saliency", tmp_path, *given)
    assert result["n_crops"] == 13
    assert set(result["mean_change_of_logit"]) == {"highest", "lowest", "random"}
    assert min(result["mean_change_of_logit"].values()) > 0
