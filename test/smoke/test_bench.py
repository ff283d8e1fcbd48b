import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_training_is_measured_against_its_bare_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.training", "--preset", "smoke", "--set", "architecture=test_resnet"]
    command += ["--crops", "40", "--steps", "2", "--rounds", "1", "--out", str(tmp_path / "training.json")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "training.json").read_text())
    assert json.loads(done.stdout) == result
    assert result["share"] == result["whole_step_crops_per_s"] / result["bare_network_crops_per_s"] > 0
    assert {"machine", "torch", "commit", "device"} <= result.keys()
