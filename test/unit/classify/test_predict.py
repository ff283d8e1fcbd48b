import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mitoscope.classify import shards as module
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.shards import UNREADABLE_CODE, draft
from mitoscope.classify.tables import find_record, find_threshold, read_predictions, record_of
from mitoscope.cli import main
from mitoscope.errors import DeviceError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def crops(tmp_path, data):
    """Forty crops as PNGs, more than two forward passes."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for number, crop in enumerate(data.crops[:40]):
        Image.fromarray(crop).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def run(tmp_path, tiny_bundle, crops):
    """A function (out, *more) that runs classify and gives exit code and path."""

    def run(out, *more):
        path = tmp_path / out
        given = ["--crops", crops, "--weights", tiny_bundle, "--device", "cpu", "--out", path, *more]
        return main(["classify", *map(str, given)]), path

    return run


def test_the_file_holds_the_classifier_s_probabilities(run, data, tiny_bundle):
    code, path = run("predictions.csv")
    p_members = Classifier.load(tiny_bundle, device="cpu").predict_members(np.array(data.crops[:40]))
    predictions = read_predictions(path)
    assert code == 0
    np.testing.assert_allclose(predictions["p_atypical"], p_members.mean(axis=0), atol=2e-6)
    np.testing.assert_allclose(predictions.filter(like="member_").T, p_members, atol=2e-6)
    assert list(predictions["class"]) == ["atypical" if p >= 0.5 else "normal" for p in predictions["p_atypical"]]
    assert path.read_text().startswith(
        "image_id,p_atypical,class,member_0,member_1,member_2,member_3,member_4\n00.png,"
    )
    assert find_threshold(predictions, find_record(path)) == 0.5


@pytest.mark.slow
def test_batch_size_threads_and_a_second_run_change_no_byte(run):
    reference = run("a.csv")[1].read_bytes()
    before = torch.get_num_threads()
    try:
        for threads, batch_size in ((1, 64), (2, 1)):
            torch.set_num_threads(threads)
            _, path = run(f"{threads}-{batch_size}.csv", "--batch-size", batch_size)
            assert path.read_bytes() == reference
    finally:
        torch.set_num_threads(before)


def test_a_gpu_too_small_for_a_block_is_an_error(tiny_bundle, stack):
    classifier = Classifier.load(tiny_bundle, device="cpu")

    def refuse(_, images):
        """A GPU that has room for three crops."""
        if len(images[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    classifier.members[0].register_forward_pre_hook(refuse)
    with pytest.raises(DeviceError, match="memory of cpu is full"):
        classifier.predict_members(stack, repeatable=True)


def test_a_crop_is_scored_alike_whatever_stands_beside_it(run, crops):
    whole = read_predictions(run("a.csv")[1]).set_index("image_id")
    for number in range(7):
        (crops / f"{number:02d}.png").unlink()
    rest = read_predictions(run("b.csv")[1]).set_index("image_id")
    pd.testing.assert_frame_equal(rest, whole.iloc[7:])


def test_a_finished_prediction_is_left_as_it_is(run, capsys, crops):
    _, path = run("a.csv")
    before = path.stat().st_mtime_ns
    run("a.csv")
    assert "is finished: nothing to do" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before
    (crops / "00.png").unlink()
    run("a.csv")
    assert len(read_predictions(path)) == 39


def test_crops_that_were_changed_since_are_scored_again(run, crops):
    for number in range(2):
        Image.open(crops / f"{number:02d}.png").save(crops / f"{number:02d}.tif")  # uncompressed: of one size
    before = read_predictions(run("a.csv")[1]).set_index("image_id")["p_atypical"]
    (crops / "00.tif").write_bytes((crops / "01.tif").read_bytes())
    after = read_predictions(run("a.csv")[1]).set_index("image_id")["p_atypical"]
    assert before["00.tif"] != before["01.tif"] == after["00.tif"] == after["01.tif"]


def test_files_of_the_same_names_and_sizes_elsewhere_are_scored(tmp_path, run, crops):
    """Uncompressed TIFFs are of one size; a copy keeps the time of the last change."""
    (own := tmp_path / "own").mkdir()
    (others := tmp_path / "others").mkdir()
    Image.open(crops / "00.png").save(own / "a.tif")
    Image.open(crops / "01.png").save(others / "a.tif")
    os.utime(others / "a.tif", ns=((own / "a.tif").stat().st_mtime_ns,) * 2)

    def score(folder):
        return read_predictions(run("a.csv", "--crops", folder)[1])["p_atypical"].item()

    first, second = score(own), score(others)
    assert first != second
    shutil.copy2(others / "a.tif", own / "a.tif")  # once more the same name, size and time
    assert score(own) == second


def test_other_code_scores_again_and_the_same_code_of_another_commit_does_not(run, monkeypatch, capsys):
    run("a.csv")
    monkeypatch.setattr("mitoscope.classify.predict.read_commit", lambda: "0" * 40)
    run("a.csv")
    assert "is finished: nothing to do" in capsys.readouterr().out
    monkeypatch.setattr("mitoscope.classify.predict.hash_code", lambda: "0" * 64)
    run("a.csv")
    assert "nothing to do" not in capsys.readouterr().out


def test_a_broken_record_is_made_anew(run, tmp_path):
    _, path = run("a.csv")
    record = (tmp_path / "a.csv.json").read_text()
    (tmp_path / "a.csv.json").write_text(record[:100])
    assert run("a.csv")[0] == 0
    assert json.loads((tmp_path / "a.csv.json").read_text())["csv_sha256"] == json.loads(record)["csv_sha256"]
    assert len(read_predictions(path)) == 40


@pytest.mark.parametrize("commit", ["the same", "0" * 40])
def test_a_shard_does_not_take_the_place_of_another(run, capsys, monkeypatch, commit):
    _, path = run("a.csv", "--shard", "1/2")
    before = path.read_bytes()
    if commit != "the same":
        monkeypatch.setattr("mitoscope.classify.predict.read_commit", lambda: commit)
    assert run("a.csv", "--shard", "2/2")[0] == 1
    assert "a.csv holds another shard: got shard 1/2" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_folder_as_output_is_refused_before_anything_is_scored(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert run("out")[0] == 1
    said = capsys.readouterr()
    assert "out is a folder" in said.err
    assert "scoring" not in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops", "out"]


def test_by_default_an_unreadable_crop_leaves_everything_as_it_was(run, crops, tmp_path, capsys):
    run("a.csv")
    before = (tmp_path / "a.csv").read_bytes()
    (crops / "05.png").write_bytes(b"no image")
    (crops / "07.png").write_bytes(b"")
    code, _ = run("a.csv")
    said = capsys.readouterr().err.splitlines()
    assert code == UNREADABLE_CODE
    assert [line.split(":")[1].strip() for line in said[:2]] == ["05.png", "07.png"]
    assert said[-1].startswith("error: 2 of 40 files cannot be read")
    assert (tmp_path / "a.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.csv.json", "crops"]


def test_a_hostile_name_leaves_one_printable_line(run, crops, capsys):
    (crops / "a\nerror: b\x1b[2J.png").write_bytes(b"no image")
    assert run("a.csv")[0] == UNREADABLE_CODE
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("unreadable: a error: b\\x1b[2J.png: ")
    assert len(lines) == 2  # the other one counts
    assert all(line.isprintable() for line in lines)


def test_without_strict_the_rest_is_scored_and_the_lost_are_listed(run, crops, tmp_path):
    (crops / "05.png").write_bytes(b"no image")
    code, path = run("a.csv", "--no-strict")
    assert code == UNREADABLE_CODE
    assert len(read_predictions(path)) == 39
    assert list(pd.read_csv(tmp_path / "a.csv.unreadable.csv")["image_id"]) == ["05.png"]
    assert json.loads((tmp_path / "a.csv.json").read_text())["crops"]["n_unreadable"] == 1
    assert run("a.csv", "--no-strict")[0] == UNREADABLE_CODE  # finished, and still not whole


def test_greyscale_is_counted(run, crops, capsys):
    Image.open(crops / "03.png").convert("L").save(crops / "03.png")
    _, path = run("a.csv")
    assert "1 crops are greyscale" in capsys.readouterr().out
    assert json.loads(path.with_name("a.csv.json").read_text())["crops"]["n_greyscale"] == 1


def test_shards_merge_to_the_same_bytes(run, tmp_path):
    _, whole = run("whole.csv")
    shards = [run(f"{number}.csv", "--shard", f"{number}/3")[1] for number in (1, 2, 3)]
    assert main(["merge", *map(str, reversed(shards)), "--out", str(tmp_path / "merged.csv")]) == 0
    assert (tmp_path / "merged.csv").read_bytes() == whole.read_bytes()
    record = json.loads((tmp_path / "merged.csv.json").read_text())
    assert record["crops"]["n_crops"] == 40
    assert record["csv_sha256"] == json.loads((tmp_path / "whole.csv.json").read_text())["csv_sha256"]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [([1, 3], "without ['2/3']"), ([1, 2, 2, 3], "['1/3', '2/3', '2/3', '3/3']"), ([2], "without ['1/3', '3/3']")],
)
def test_a_merge_refuses_gaps_and_duplicates(run, tmp_path, capsys, numbers, said):
    shards = []
    for place, number in enumerate(numbers):
        shards.append(run(f"{place}.csv", "--shard", f"{number}/3")[1])
    assert main(["merge", *map(str, shards), "--out", str(tmp_path / "merged.csv")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "merged.csv").exists()


def test_a_merge_refuses_a_file_that_is_given_twice(run, tmp_path, capsys):
    first, second = (run(f"{number}.csv", "--shard", f"{number}/2")[1] for number in (1, 2))
    again = tmp_path / "crops" / ".." / "1.csv"
    for twice in (first, again):
        assert main(["merge", *map(str, (first, twice, second)), "--out", str(tmp_path / "merged.csv")]) == 1
        assert "a shard is given twice" in capsys.readouterr().err
    assert not (tmp_path / "merged.csv").exists()
    assert main(["merge", str(first), str(second), "--out", str(first)]) == 1
    assert "1.csv is one of the shards: got the same path after --out" in capsys.readouterr().err


def test_a_merge_refuses_a_changed_shard(run, tmp_path, capsys):
    shards = [run(f"{number}.csv", "--shard", f"{number}/2")[1] for number in (1, 2)]
    shards[1].write_text(shards[1].read_text() + "\n")
    assert main(["merge", *map(str, shards), "--out", str(tmp_path / "merged.csv")]) == 1
    assert "2.csv was changed" in capsys.readouterr().err


def test_a_merge_refuses_shards_of_other_crops(run, crops, tmp_path, capsys):
    _, first = run("1.csv", "--shard", "1/2")
    (crops / "39.png").unlink()
    _, second = run("2.csv", "--shard", "2/2")
    assert main(["merge", str(first), str(second), "--out", str(tmp_path / "merged.csv")]) == 1
    assert "2.csv is of another prediction: got listing" in capsys.readouterr().err


def test_a_merge_keeps_the_lists_of_the_lost(run, crops, tmp_path):
    for name in ("05.png", "35.png"):
        (crops / name).write_bytes(b"no image")
    shards = [run(f"{number}.csv", "--shard", f"{number}/3", "--no-strict")[1] for number in (1, 2, 3)]
    assert main(["merge", *map(str, shards), "--out", str(tmp_path / "merged.csv")]) == UNREADABLE_CODE
    assert list(pd.read_csv(tmp_path / "merged.csv.unreadable.csv")["image_id"]) == ["05.png", "35.png"]


def test_more_shards_than_files_is_fine(run, crops, tmp_path):
    for path in sorted(crops.iterdir())[2:]:
        path.unlink()
    shards = [run(f"{number}.csv", "--shard", f"{number}/3")[1] for number in (1, 2, 3)]
    assert main(["merge", *map(str, shards), "--out", str(tmp_path / "merged.csv")]) == 0
    assert len(read_predictions(tmp_path / "merged.csv")) == 2


def test_an_output_folder_that_cannot_be_written_is_one_line(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("file/a.csv")[0] == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_a_killed_predict_left_is_taken_away_and_what_another_one_writes_is_not(tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    left, held = tmp_path / ".predictions.csv.left.draft", tmp_path / ".predictions.csv.held.draft"
    for folder in (left, held):
        folder.mkdir()
        (folder / "scores.csv").write_text("image_id")
    with (held / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with draft(out) as new, draft(out) as other:
            assert new.scores.parent.is_dir()
            assert other.scores.parent != new.scores.parent
        assert sorted(tmp_path.iterdir()) == [held]


def test_a_draft_that_another_predict_finds_before_it_is_held_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, hold, interrupted = tmp_path / "predictions.csv", module._held, []

    def hold_late(folder: Path) -> AbstractContextManager[bool]:
        if not interrupted:
            interrupted.append(folder)
            with draft(out):  # the other one: it takes away what nobody holds
                pass
        return hold(folder)

    monkeypatch.setattr(module, "_held", hold_late)
    with draft(out) as new:
        assert new.scores.parent.is_dir()
    assert interrupted
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_the_record_leaves_no_record_of_other_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace, record = tmp_path / "predictions.csv", Path.replace, {"crops": {"n_unreadable": 0}}

    def interrupted(path: Path, target: Path) -> Path:
        if target == record_of(out) and "newer" in out.read_text():
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with draft(out) as new:
        new.scores.write_text("older")
        new.keep(record)
    assert record_of(out).is_file()
    with pytest.raises(KeyboardInterrupt), draft(out) as new:
        new.scores.write_text("newer")
        new.keep(record)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_stream_without_umlauts_costs_no_exit_code(crops: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    given = ["--crops", crops, "--weights", tiny_bundle, "--device", "cpu", "--out", tmp_path / "prädiktion.csv"]
    command = [sys.executable, "-m", "mitoscope", "classify", *map(str, given)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("pr\\xe4diktion.csv\n")
