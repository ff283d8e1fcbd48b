import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.images.crops import find_stack, read_stack
from mitoscope.images.stain import measure_crops
from mitoscope.sockets import OUTPUT_NAME
from model.classification import IMAGES_FOLDER
from tools.bench.bundles import read_some, write_pickles

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.long


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
    result = run("tools.bench.training", tmp_path, *given)
    assert result["share"] == result["whole_step_crops_per_s"] / result["bare_network_crops_per_s"] > 0
    assert {"torch", "device"} <= result.keys()


def test_a_servers_request_is_measured_against_its_forward_passes(tmp_path: Path, tiny_bundle: Path) -> None:
    result = run("tools.bench.invoke", tmp_path, "--weights", tiny_bundle, "--device", "cpu", "--rounds", "1")
    seconds = result["median_s"]
    assert result["request_over_forward"] == seconds["request"] / seconds["forward"] > 0
    assert result["crops"] == 16
    assert {"torch", "device", "precision"} <= result.keys()


def test_memory_is_told_for_each_number_of_crops(tmp_path: Path) -> None:
    result = run("tools.bench.memory", tmp_path, "--crops", "20", "90")
    assert [one["crops"] for one in result["runs"]] == [20, 90]
    assert all(50 < one["peak_mib"] < 8000 for one in result["runs"])
    assert result["largest_over_smallest"] >= 1


def test_members_on_one_base_are_measured(tmp_path: Path) -> None:
    result = run("tools.bench.adapters", tmp_path, "--architecture", "test_vit", "--members", "1", "3")
    assert [one["different_answers"] for one in result["runs"]] == [1, 3]
    assert result["peak_over_first"] == round(result["runs"][1]["peak_mib"] / result["runs"][0]["peak_mib"], 3)


def test_the_maps_are_judged_by_what_blurring_does(tmp_path: Path, scored_crops: Path, tiny_bundle: Path) -> None:
    given = ("--crops", scored_crops / "crops", "--weights", tiny_bundle, "--every", "10")
    result = run("tools.bench.saliency", tmp_path, *given)
    assert result["n_crops"] == 13
    assert set(result["mean_change_of_logit"]) == {"largest", "smallest", "random", "highest", "lowest"}
    assert min(result["mean_change_of_logit"].values()) > 0


def test_speed_is_told_beside_the_reference_and_the_limits(tmp_path: Path, tiny_bundle: Path) -> None:
    result = run("tools.bench.speed", tmp_path, "--weights", tiny_bundle, "--rounds", "1")
    median_s = result["stack"]["median_s"]
    whole = {name: spent["process"] for name, spent in median_s.items()}
    assert set(median_s["ours"]) >= {"read", "imports", "weights", "forward", "write", "peak_mib"}
    assert set(median_s["reference"]) >= {"read", "imports", "weights", "forward", "write", "peak_mib"}
    assert result["stack"]["reference_over_ours"] == whole["reference"] / whole["ours"] > 0
    assert result["stack"]["ours_over_import_torch_timm"] == whole["ours"] / whole["import_torch_timm"] > 0
    bulk, limits = result["bulk"], result["limits"]
    assert bulk["ours_over_reference"] == pytest.approx(bulk["ours_crops_per_s"] / bulk["reference_crops_per_s"])
    assert 0 < limits["share_of_matrix_rate"] < 1
    assert limits["arithmetic_s_a_stack"] < median_s["ours"]["forward"] + 0.01  # the log has two decimals


@pytest.mark.parametrize("other", ["fcos_test_resnet", "torchvision"])
def test_a_detector_is_measured_beside_another_and_the_limits(tmp_path: Path, other: str) -> None:
    given = ("--architecture", "test_resnet", "--mpp", "0.5", "--tile-px", "256", "--size-px", "800", "600")
    result = run("tools.bench.detect", tmp_path, *given, "--against", other, "--rounds", "1", "--tiles", "1")
    ours, theirs = result["networks"]["ours"], result["networks"]["against"]
    assert theirs["name"] == other
    assert theirs["gflop_a_tile"] > ours["gflop_a_tile"] > 0
    assert result["against_over_ours"] == pytest.approx(theirs["s_a_tile"] / ours["s_a_tile"])
    assert 0 < ours["share_of_matrix_rate"] < 1
    assert ours["n_tiles"] > 1
    assert ours["s_a_region"] == ours["s_a_tile"] * ours["n_tiles"]
    assert 50 < result["process"]["median_peak_mib"] < 8000
    assert result["region"]["mm2"] == pytest.approx(0.03)


def test_the_reference_loop_gives_the_same_answers(tmp_path: Path) -> None:
    case = ROOT / "test" / "input" / "interf0"
    bundle = read_bundle(ROOT / "weights" / "lite")
    write_pickles(bundle, tmp_path / "pickles")
    command = [sys.executable, "-m", "tools.bench.reference", "--input", str(case), "--output", str(tmp_path)]
    subprocess.run([*command, "--weights", str(tmp_path / "pickles")], cwd=ROOT, check=True, capture_output=True)
    got = json.loads((tmp_path / OUTPUT_NAME).read_text())
    classifier = Classifier.load(bundle.folder, device="cpu")
    as_it_comes = tuple(replace(member, orientations=()) for member in bundle.members)  # as the loop sees a crop
    same = Classifier(replace(bundle, members=as_it_comes), classifier.members, classifier.device, "fp32")
    expected = same.predict_members(read_stack(find_stack(case / IMAGES_FOLDER, root=case))).mean(axis=0)
    found = np.array([record["confidence"] for record in got])
    np.testing.assert_allclose(found, expected, atol=0.06)  # PIL's bicubic kernel is another one, and rounds to 8 bits
    assert [record["class"] == "atypical" for record in got] == (found >= bundle.threshold.value).tolist()


def test_a_random_bundle_answers_by_the_stain(tmp_path: Path, scored_crops: Path) -> None:
    command = [sys.executable, "-m", "tools.bench.bundles", "--architecture", "efficientvit_b0", "--size-px", "64"]
    given = ["--crops", str(scored_crops / "crops"), "--out", str(tmp_path / "bundle")]
    subprocess.run([*command, *given], cwd=ROOT, check=True, capture_output=True)
    crops = read_some(scored_crops / "crops", 40)
    p_members = Classifier.load(tmp_path / "bundle", device="cpu").predict_members(crops)
    haematoxylin = measure_crops(crops)[:, 0]
    for p_atypical in p_members:
        assert np.corrcoef(np.log(p_atypical / (1 - p_atypical)), haematoxylin)[0, 1] > 0.8
    rounding = read_bundle(tmp_path / "bundle").rounding
    assert 0 < rounding["fp16"].largest_change < rounding["bf16"].largest_change < 0.1


def test_a_folder_without_crops_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no crops in"):
        read_some(tmp_path, 3)


def test_a_precision_is_judged_by_what_it_changes(tmp_path: Path, scored_crops: Path, tiny_bundle: Path) -> None:
    result = run(
        "tools.bench.precision", tmp_path, "--crops", scored_crops / "crops", "--weights", tiny_bundle, "--most", "20"
    )
    on_cpu = [row for row in result["rows"] if row["device"] == "cpu"]
    assert [row["precision"] for row in on_cpu] == ["bf16"]  # a CPU has no fp16
    assert 0 < on_cpu[0]["median_change"] <= on_cpu[0]["largest_change"] < 0.1
    assert 0 <= on_cpu[0]["flipped"] <= result["crops"]["n"] <= 20


def test_the_cold_start_is_compared_with_another_checkout(tmp_path: Path, tiny_bundle: Path) -> None:
    result = run("tools.bench.start", tmp_path, "--against", ROOT, "--weights", tiny_bundle, "--rounds", "1")
    assert result["median_ratio"] == result["median_s"] / result["other_median_s"] > 0
