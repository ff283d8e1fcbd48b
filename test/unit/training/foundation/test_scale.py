import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import case_groups, read_folds, write_folds
from mitoscope.training.foundation.probe.store import Embeddings
from mitoscope.training.foundation.scale.measure import Point, find_enough, score, summarise_seeds
from mitoscope.training.foundation.scale.report import render_gap, render_leak
from mitoscope.training.foundation.scale.run import Source, run_plan
from mitoscope.training.foundation.scale.trials import TEST, Plan, Trial, draw
from mitoscope.training.marks import locked
from mitoscope.training.study.launch import FitJob

HOLD_OUT = ("source=other",)


def cases_of(data: CropData, ids: tuple[str, ...]) -> set[str]:
    return set(case_groups(data.table).iloc[data.rows_of(list(ids))])


def test_a_smaller_fraction_is_a_part_of_a_larger_one_and_no_case_is_on_two_sides(data: CropData) -> None:
    plan = Plan(("probe",), hold_out=HOLD_OUT)
    parts = [draw(data, Trial("probe", fraction=fraction, seed=3), plan) for fraction in (0.3, 0.6, 1.0)]
    small, middle, whole = (set(folds.folds[1]) for folds in parts)
    assert small < middle < whole
    assert len(small) == round(0.3 * len(whole))
    assert len(cases_of(data, parts[0].folds[1])) == -(-len(small) // 4)  # whole slides of four, but for the last
    for folds in parts:
        validation, fitted = (cases_of(data, ids) for ids in folds.folds)
        assert not validation & fitted
        assert folds.folds[0] == parts[0].folds[0]
        assert len(folds.unused) + len(folds.folds[1]) == len(whole)
        assert TEST not in folds.held_out


def test_a_random_split_has_cases_on_two_sides_and_says_so(data: CropData, tmp_path: Path) -> None:
    plan = Plan(("probe",), splits=("case", "random"))
    folds = draw(data, Trial("probe", split="random"), plan)
    assert cases_of(data, folds.held_out[TEST]) & cases_of(data, folds.folds[1])
    write_folds(tmp_path / "folds.json", folds)
    assert json.loads((tmp_path / "folds.json").read_text())["leaky"] is True
    assert read_folds(tmp_path / "folds.json", data) == folds
    by_case = draw(data, Trial("probe"), plan)
    assert not cases_of(data, by_case.held_out[TEST]) & cases_of(data, by_case.folds[1])


def test_a_fraction_that_leaves_a_class_empty_is_one_clear_line(
    data: CropData, embeddings: Embeddings, tmp_path: Path
) -> None:
    source = Source(tmp_path, data, embeddings)
    plan = Plan(("probe-uni",), fractions=(0.001, 1.0), hold_out=HOLD_OUT)
    with pytest.raises(DataError, match="the fraction 0.001 with seed 42 holds no crop of the class") as caught:
        run_plan(plan, source, tmp_path / "study", lambda _: None)
    assert "got 1 crops, all of one class, expected crops of both classes; name larger --fractions" in str(caught.value)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fractions": (0.0,)}, "out of range"),
        ({"seeds": (1, 1)}, "a seed is named twice"),
        ({"methods": ("probe", "probe")}, "a method is named twice"),
        ({"splits": ("case", "case")}, "a split is named twice"),
        ({"grid": (("c", ("1", "1")),)}, "a value of c is named twice"),
        ({"grid": (("c", ("1",)), ("c", ("2",)))}, "a setting of --grid is named twice"),
    ],
)
def test_a_bad_plan_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Plan(**{"methods": ("probe",), **change})


def made_crops(groups: dict[str, dict[str, int]]) -> CropData:
    """Crops without pixels: by cohort, the number of crops of each case; every third is atypical."""
    rows = [(cohort, case) for cohort, cases in groups.items() for case, n in cases.items() for _ in range(n)]
    table = pd.DataFrame(rows, columns=["cohort", "case"])
    table["image_id"] = [f"made/{row}" for row in range(len(table))]
    table["label"] = np.where(np.arange(len(table)) % 3 == 0, "atypical", "normal")
    table["domain"], table["source"], table["part"] = "breast", table["cohort"], ""
    return CropData(table, np.zeros((len(table), 0)))


def test_seeds_give_different_tests_where_few_large_cases_are_split() -> None:
    data = made_crops({"one": {f"slide{k}": n for k, n in enumerate((200, 150, 120, 90, 80, 60, 40, 30))}})
    plan = Plan(("probe",))
    tests = [cases_of(data, draw(data, Trial("probe", seed=seed), plan).held_out[TEST]) for seed in range(42, 47)]
    assert len({frozenset(cases) for cases in tests}) == 5
    assert set.union(*tests) == set(data.table["case"])


def test_the_seen_test_is_of_each_cohort_that_was_learned_from() -> None:
    cohorts = {
        "left out": {f"a{k}": 12 for k in range(6)},
        "many": {f"b{k}": 12 for k in range(10)},
        "two": {"c0": 12, "c1": 15},
        "one": {"d0": 90},
    }
    data = made_crops(cohorts)
    plan = Plan(("probe",), leave_one_out="cohort")
    for seed in range(5):
        folds = draw(data, Trial("probe", seed=seed, left_out="cohort=left out"), plan)
        seen, validation, learned = (
            data.table.iloc[data.rows_of(list(ids))] for ids in (folds.held_out[TEST], *folds.folds)
        )
        assert set(seen["cohort"]) == {"many", "two"} <= set(learned["cohort"])
        assert seen["case"].nunique() == 3
        assert "one" not in set(validation["cohort"])
    alone = made_crops({"left out": {"a0": 30, "a1": 30}, "one": {"d0": 90}})
    with pytest.raises(DataError, match="too few cases remain for a test and a validation where cohort=left out"):
        draw(alone, Trial("probe", left_out="cohort=left out"), plan)


def test_a_setting_changes_the_methods_that_have_it_or_is_refused(
    data: CropData, embeddings: Embeddings, tmp_path: Path
) -> None:
    plan = Plan(("probe",), hold_out=HOLD_OUT)
    run_plan(plan, Source(tmp_path, data, embeddings, ("c=0.01",)), tmp_path / "study", lambda _: None)
    (trial,) = (tmp_path / "study").glob("trials/*/trial.json")
    assert json.loads(trial.read_text())["learned"] == {"c": 0.01}
    for method, setting in (("probe", "epochs=1"), ("smoke", "c=0.01"), ("knn", "c=0.01"), ("probe", "neighbours=3")):
        source = Source(tmp_path, data, embeddings, (setting,))
        with pytest.raises(DataError, match=f"--set {setting} changes no method of this study: got {method}"):
            run_plan(Plan((method,), hold_out=HOLD_OUT), source, tmp_path / "other", lambda _: None)


def test_a_study_runs_once_and_grows(
    data_folder: Path, embeddings_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "scale", "--data", str(data_folder), "--embeddings", str(embeddings_folder)]
    command += ["--hold-out", HOLD_OUT[0], "--method", "probe-uni", "knn", "--out", str(tmp_path)]
    assert main([*command, "--fractions", ".5", "1", "--seeds", "1", "2"]) == 0, capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/trial.json")}
    assert len(before) == 8
    assert main([*command, "--fractions", ".5", "1", "--seeds", "1", "2", "3"]) == 0
    assert "8 of 12 trials are finished" in capsys.readouterr().out
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/trial.json")}.items()
    found = json.loads((tmp_path / "scale.json").read_text())
    assert len(found["trials"]) == 12
    assert {(point["method"], point["fraction"], point["n_seeds"]) for point in found["points"]} == {
        (method, fraction, 3) for method in ("probe-uni", "knn") for fraction in (0.5, 1.0)
    }
    assert "at least 98% of that with all training crops" in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "curve-1.svg").is_file()
    assert main([*command, "--seeds", "1", "--grid", "neighbours", "3"]) == 1
    assert "--set neighbours=3 changes nothing: got probe-uni" in capsys.readouterr().err
    command[command.index("probe-uni") : command.index("knn") + 1] = ["knn"]
    assert main([*command, "--fractions", ".5", "1", "--seeds", "1", "2", "--grid", "neighbours", "3"]) == 0
    assert main([*command[:-2], "--out", str(tmp_path), "--hold-out", "lung", "--seeds", "1"]) == 1
    assert "belongs to other data, embeddings, settings or hold-outs" in capsys.readouterr().err


def test_leaks_and_gaps_have_tables(
    data_folder: Path, embeddings_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "scale", "--data", str(data_folder), "--embeddings", str(embeddings_folder), "--seeds", "1"]
    command += ["--method", "probe-uni"]
    assert main([*command, "--split", "case", "random", "--out", str(tmp_path / "leak")]) == 0, capsys.readouterr().err
    assert "Random split minus split by case" in (tmp_path / "leak" / "tables.md").read_text()
    assert main([*command, "--leave-one-out", "domain", "--out", str(tmp_path / "gap")]) == 0
    text = (tmp_path / "gap" / "tables.md").read_text()
    assert "Seen minus unseen" in text
    assert "| probe-uni | domain=breast | case | 1 |" in text.partition("Seen minus unseen")[2]
    assert (tmp_path / "gap" / "points-1.svg").is_file()


def test_fits_on_slurm_need_slurm(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["train", "scale", "--data", str(data_folder), "--method", "smoke", "--seeds", "1", "--launcher", "slurm"]
    assert main([*command, "--out", str(tmp_path / "study")]) == 1
    assert "--launcher slurm needs Slurm: got no sbatch" in capsys.readouterr().err


def predictions(quality: float, seed: int) -> pd.DataFrame:
    """400 crops of 20 cases, half of them the validation; p tells the class by so many standard deviations."""
    random = np.random.default_rng(seed)
    positive = np.arange(400) % 2 == 0
    p = 1 / (1 + np.exp(-(quality * positive + random.normal(size=400))))
    sets = np.where(np.arange(400) < 200, "validation", "test")
    return pd.DataFrame({"crops": sets, "positive": positive, "p": p, "case": [f"c{k // 20}" for k in range(400)]})


def curve_of(qualities: dict[float, float]) -> list[Point]:
    scored = [
        each
        for fraction, quality in qualities.items()
        for seed in (1, 2, 3)
        for each in score(Trial("probe", fraction=fraction, seed=seed), 10, predictions(quality, seed))
    ]
    return summarise_seeds(scored)


def test_the_interval_holds_the_mean_and_the_least_fraction_is_found() -> None:
    curve = curve_of({0.1: 0.5, 0.5: 2.98, 1.0: 3.0})
    for point in curve:
        low, high = point.interval("roc_auc") or (1, 0)
        assert low < point.mean["roc_auc"] < high
        assert (point.n_seeds, point.crops) == (3, "test")
    assert [find_enough(curve, metric) for metric in ("roc_auc", "balanced_accuracy")] == [0.5, 0.5]
    assert find_enough(curve[:2], "roc_auc") is None
    assert find_enough(curve_of({0.1: 3.0, 0.5: 0.5, 1.0: 3.0}), "roc_auc") == 1.0


def test_a_leak_and_a_gap_are_above_zero_where_they_should_be() -> None:
    qualities = {("case", "test"): 1.0, ("case", "cohort=x"): 0.2, ("random", "test"): 3.0, ("random", "cohort=x"): 0.2}
    points = summarise_seeds([
        each
        for (split, crops), quality in qualities.items()
        for each in score(
            Trial("probe", split=split, left_out="cohort=x"), 10,
            predictions(quality, 1).replace({"crops": {"test": crops}}),
        )
    ])  # fmt: skip
    auc = {(point.trial.split, point.crops): point.mean["roc_auc"] for point in points}
    leak, gap = auc["random", "test"] - auc["case", "test"], auc["case", "test"] - auc["case", "cohort=x"]
    assert min(leak, gap) > 0.1
    assert f"| probe | cohort=x | 1 | test | +{leak:.3f} [" in render_leak(points)
    assert f"| probe | cohort=x | case | 1 | +{gap:.3f} [" in render_gap(points)


def test_two_trials_never_share_a_folder(data: CropData, embeddings: Embeddings, tmp_path: Path) -> None:
    table = data.table.assign(ward=["A B", "A-B"] * (len(data.table) // 2))
    plan = Plan(("probe-uni",), leave_one_out="ward")
    with pytest.raises(DataError, match="two trials of this study would use one folder: got 2 called .*ward=A-B"):
        run_plan(plan, Source(tmp_path, CropData(table, data.crops), embeddings), tmp_path / "study", lambda _: None)
    assert Trial("probe", fraction=0.1234567).name != Trial("probe", fraction=0.1234568).name


def test_one_process_works_in_a_study(data: CropData, embeddings: Embeddings, tmp_path: Path) -> None:
    plan = Plan(("probe-uni",), hold_out=HOLD_OUT)
    with locked(tmp_path), pytest.raises(DataError, match="is in use: got another process"):
        run_plan(plan, Source(tmp_path, data, embeddings), tmp_path, lambda _: None)


def test_a_base_goes_to_the_presets_that_keep_one_frozen(data: CropData, base: Path, tmp_path: Path) -> None:
    settings = ("architecture=test_resnet", "input.size_px=64", "epochs=1", "ema_decay=0", "lora.modules=conv_pw")
    found: dict[str, list[str]] = {}

    def launch(jobs: list[FitJob]) -> None:
        found.update({job.preset: [word for word in job.settings if word.startswith("init=")] for job in jobs})
        raise DataError("stopped", got="", expected="", remedy="")

    source = Source(tmp_path, data, None, settings, base)
    with pytest.raises(DataError, match="stopped"):
        run_plan(Plan(("virchow-lora-r8", "smoke"), hold_out=HOLD_OUT), source, tmp_path / "study", launch)
    assert found == {"virchow-lora-r8": [f"init={base}"], "smoke": []}
    with pytest.raises(DataError, match="--base .* is used by no method of this study: got smoke"):
        run_plan(Plan(("smoke",)), source, tmp_path / "none", launch)


def test_leaks_and_gaps_are_shown_by_what_is_left_out_share_and_split() -> None:
    qualities = {
        (split, fraction, crops): quality
        for quality, (split, fraction, crops) in enumerate(
            product(("case", "random"), (0.5, 1.0), ("test", "cohort=x"))
        )
    }
    found = {key: predictions(quality / 4, 1) for key, quality in qualities.items()}
    scored = [
        each
        for (split, fraction, crops), table in found.items()
        for each in score(
            Trial("probe", fraction=fraction, split=split, left_out="cohort=x"),
            10,
            table.replace({"crops": {"test": crops}}),
        )
    ]
    points = summarise_seeds(scored)
    tests = {key: table[table["crops"] == "test"] for key, table in found.items()}
    auc = {key: roc_auc_score(table["positive"], table["p"]) for key, table in tests.items()}
    leaks, gaps = render_leak(points), render_gap(points)
    for share in (0.5, 1.0):
        leak = auc["random", share, "test"] - auc["case", share, "test"]
        assert f"| probe | cohort=x | {share:g} | test | {leak:+.3f}" in leaks
        for split in ("case", "random"):
            gap = auc[split, share, "test"] - auc[split, share, "cohort=x"]
            assert f"| probe | cohort=x | {split} | {share:g} | {gap:+.3f}" in gaps


def test_fits_and_probes_stand_in_one_table(
    data_folder: Path, embeddings_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "scale", "--data", str(data_folder), "--embeddings", str(embeddings_folder), "--seeds", "1"]
    command += ["--hold-out", HOLD_OUT[0], "--method", "probe-uni", "smoke", "--out", str(tmp_path)]
    settings = ("architecture=test_resnet", "epochs=1", "ema_decay=0")
    command += [word for setting in settings for word in ("--set", setting)]
    assert main(command) == 0, capsys.readouterr().err
    assert main(command) == 0
    assert "2 of 2 trials are finished" in capsys.readouterr().out
    found = json.loads((tmp_path / "scale.json").read_text())
    assert [(trial["method"], trial["n_crops"]) for trial in found["trials"]] == [("probe-uni", 10), ("smoke", 10)]
    member = tmp_path / "trials" / "smoke_case_1_seed1" / "fit" / "member.safetensors"
    assert member.is_file()
