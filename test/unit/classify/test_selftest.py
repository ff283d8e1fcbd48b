import json
from pathlib import Path

import pytest

from mitoscope.classify import selftest
from mitoscope.cli import main


@pytest.mark.long
def test_the_default_weights_give_the_known_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["selftest", "--device", "cpu", "--out", str(tmp_path / "selftest.json")])  # 1 on a busy machine: too slow
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["fp32"].startswith("ok")
    assert "crops a second in fp32 on cpu" in lines["speed"]
    assert "from the start of a process" in lines["a"]
    result = json.loads((tmp_path / "selftest.json").read_text())
    assert result["largest_change_from_known"] < 1e-4
    assert {"machine", "commit", "bundle", "speed", "stack_s", "precisions"} <= result.keys()


@pytest.mark.long
def test_wrong_probabilities_are_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, expected = selftest.find_sample()
    pages = json.loads(expected.read_text())
    pages[3]["confidence"] += 0.01
    (tmp_path / "other.json").write_text(json.dumps(pages))
    monkeypatch.setattr(selftest, "EXPECTED", (tmp_path / "other.json",))
    monkeypatch.setattr(selftest, "measure_stack", lambda *_: (selftest.Check("a stack", ""), 0.0))
    checks, _ = selftest.run_selftest(device="cpu")
    assert [check.good for check in checks if check.name == "fp32"] == [False]


def test_other_weights_have_no_known_probabilities(tiny_bundle: Path) -> None:
    crops, expected = selftest.read_sample(selftest.read_bundle(tiny_bundle))
    assert (crops.shape, expected) == ((16, 128, 128, 3), None)


@pytest.mark.parametrize(
    ("script", "driver"), [("echo 570.86.15; echo 570.86.15", "570.86.15"), ("echo no driver; exit 9", None)]
)
def test_the_driver_is_what_nvidia_smi_prints(
    script: str, driver: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert selftest.read_driver() == driver
    program.unlink()
    assert selftest.read_driver() is None
