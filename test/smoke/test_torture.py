"""The kinds of torture, a few shots each; `make torture` is longer."""

from functools import partial
from pathlib import Path

import pytest
from torture import inference as module
from torture.bundle import damage_bundle
from torture.inference import kill_inference, stop_inference
from torture.predict import kill_predict
from torture.repeat import OTHERS, repeat
from torture.slides import kill_slide
from torture.training import kill_training

pytestmark = pytest.mark.long


def test_a_killed_inference_leaves_the_old_result_or_the_new_one(tmp_path: Path) -> None:
    counts = kill_inference(4, 0, 2, tmp_path)
    assert counts["cases"] == counts["old"] + counts["new"] == 4
    assert counts["hit"] >= 1
    assert counts["wrong"] == 0


def test_a_stopped_inference_reports_it_and_leaves_no_file(tmp_path: Path) -> None:
    counts = stop_inference(4, 0, 2, tmp_path)
    assert counts["cases"] == counts["old"] + counts["new"] == 4
    assert counts["hit"] >= 1
    assert counts["left_over"] == counts["wrong"] == 0


def test_an_inference_that_ignores_the_signal_is_counted_as_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "import runpy, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal = lambda *_: None; "
    deaf += "sys.argv = sys.argv[1:]; runpy.run_path('inference.py', run_name='__main__')"
    monkeypatch.setattr(module, "run", partial(module.run, "-c", deaf))
    monkeypatch.setattr(module, "SOON_S", 0.05)
    counts = stop_inference(3, 0, 1, tmp_path)
    assert counts["wrong"] >= 1
    assert counts["hit"] == 0  # it ended by itself


def test_a_killed_classify_run_again_equals_an_unbroken_one(tmp_path: Path) -> None:
    counts = kill_predict(3, 0, 2, tmp_path)
    assert counts["cases"] == 3
    assert counts["hit"] >= 1
    assert counts["wrong"] == 0


def test_a_damaged_byte_is_found_in_every_member(tmp_path: Path) -> None:
    counts = damage_bundle(80, 0, 1, tmp_path)
    assert counts["cases"] == 80
    assert counts["manifest_cases"] == 40
    assert counts["found"] + counts["without_effect"] == 80
    assert counts["found"] >= 65  # the others change white space or the name of the checksum
    assert counts["wrong"] == 0


def test_a_study_that_was_killed_again_and_again_equals_an_unbroken_one(tmp_path: Path) -> None:
    counts = kill_training(3, 0, 1, tmp_path)
    assert counts["cases"] == 1
    assert counts["hit"] >= 1
    assert counts["resumed"] >= 1  # otherwise equal members would prove nothing
    assert counts["wrong"] == 0


def test_a_slide_that_was_killed_again_and_again_equals_an_unbroken_one(tmp_path: Path) -> None:
    counts = kill_slide(3, 0, 1, tmp_path)
    assert counts["cases"] == 1
    assert counts["hit"] >= 1
    assert counts["wrong"] == 0


def test_the_same_case_gives_the_same_bytes(tmp_path: Path) -> None:
    counts = repeat(2, 0, 2, tmp_path)
    assert (counts["cases"], counts["same"], counts["others"]) == (2, 2, len(OTHERS))
    assert 0 < counts["largest_difference"] < counts["tolerance"]
    assert counts["wrong"] == 0
