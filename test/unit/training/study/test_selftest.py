import json
from pathlib import Path

import pytest
import torch

from mitoscope.classify import selftest
from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.training.study.selftest import measure_fold, plan_fold

SETTINGS = ("architecture=test_resnet", "learning_rate=0.02", "ema_decay=0")  # learns the made crops in a dozen steps


def test_a_fold_is_trained_and_measured(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = plan_fold(data_folder, (*SETTINGS, "epochs=40", "patience=1", "keep=best"), preset="smoke")
    checks, result = measure_fold(plan)
    assert [check.name for check in checks] == ["training", "GPU memory", "fold 0"]
    assert 1 < result["epochs"] == capsys.readouterr().out.count("epoch ") < 40  # it stopped early
    assert result["seconds"] > 0
    assert result["epoch_s"] == result["seconds"] / result["epochs"]
    n_validated = result["validation"]["n_crops"]
    assert result["n_trained"] + n_validated == len(plan.data.table)
    assert result["crops_per_s"] * result["epoch_s"] == pytest.approx(result["n_trained"] // 8 * 8)
    assert result["validation"]["roc_auc"] > 0.7
    assert f"balanced accuracy {result['validation']['balanced_accuracy']:.3f} at .5" in str(checks[2])
    assert str(data_folder) not in json.dumps(result)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", ["epochs=0", "colour=1", "init=nowhere.pth"])
def test_a_wrong_setting_is_found_before_any_work(setting: str, data_folder: Path) -> None:
    with pytest.raises(DataError, match=r"--set|setting"):
        plan_fold(data_folder, [setting])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--full", "--full needs --data: got none"),
        ("--data runs/data", "--data needs --full: got runs/data"),
        ("--set epochs=2", "--set needs --full: got ['epochs=2']"),
        ("--full --data runs/data --device cpu", "--full cannot be used: got --device cpu, expected an NVIDIA GPU"),
        ("--full --data runs/data", "--full cannot be used: got no CUDA device that torch can see, expected an NVIDIA"),
    ],
)
def test_what_full_lacks_is_one_line_before_any_work(
    arguments: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(selftest, "run_selftest", lambda *_: pytest.fail("it began to work"))
    assert main(["selftest", *arguments.split()]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {line}")


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_a_fold_of_l2_is_trained_on_the_gpu(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    given = ["--full", "--data", str(data_folder), "--out", str(tmp_path / "selftest.json")]
    main(["selftest", *given, "--set", "pretrained=false", "--set", "epochs=2"])  # 1 on a busy machine: too slow
    assert "s an epoch with validation (mean of 2)" in capsys.readouterr().out
    result = json.loads((tmp_path / "selftest.json").read_text())
    assert result["machine"]["driver"]
    assert result["training"]["config"]["precision"] == "16-mixed"
    assert result["training"]["peak_gpu_gb"] > 1
