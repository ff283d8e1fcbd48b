import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.judge import find_domains, truth_and_calls
from mitoscope.scoring.platform import find_results, platform_metrics, read_results
from mitoscope.sockets import INPUT_SLUG, OUTPUT_NAME

Stack = dict[str, Any]
IMAGES = [f"stack_{number}.tiff" for number in range(1, 8)]


def make_stacks() -> list[Stack]:
    """Seven stacks of 1 to 16 pages in three domains; classes that follow the confidences at 0.4."""
    random, stacks = np.random.default_rng(0), []
    for number, image in enumerate(IMAGES):
        n_pages = (16, 16, 5, 1, 16, 16, 9)[number]
        atypical = random.random(n_pages) < 0.4
        p = (random.random(n_pages) * 0.7 + atypical * 0.3).tolist()
        domains = random.choice([1, 2, 10], n_pages).tolist()
        stacks.append({"image": image, "labels": np.where(atypical, "atypical", "normal").tolist(), "p": p,
                       "tumordomains": domains})  # fmt: skip
    return stacks


def write(folder: Path, stacks: list[Stack], key: str = "interface") -> tuple[Path, Path]:
    """The platform's files, the jobs in another order than the ground truth: predictions.json and ground_truth.json."""
    jobs = []
    for number, stack in enumerate(stacks):
        pk = f"00000000-0000-4000-8000-{number:012}"
        answers = [{"class": "atypical" if p >= 0.4 else "normal", "confidence": p} for p in stack["p"]]
        result = folder / pk / "output" / OUTPUT_NAME
        result.parent.mkdir(parents=True)
        result.write_text(json.dumps(answers), encoding="utf-8")
        output = {"slug": OUTPUT_NAME.removesuffix(".json"), "relative_path": OUTPUT_NAME}
        jobs.append({
            "pk": pk,
            "inputs": [{"image": {"name": stack["image"]}, key: {"slug": INPUT_SLUG}}],
            "outputs": [{"image": None, key: output}],
            "status": "Succeeded",
        })  # fmt: skip
    truth = [{key: value for key, value in stack.items() if key != "p"} for stack in stacks]
    predictions_json, ground_truth_json = folder / "predictions.json", folder / "ground_truth.json"
    predictions_json.write_text(json.dumps(jobs[::-1]), encoding="utf-8")
    ground_truth_json.write_text(json.dumps(truth), encoding="utf-8")
    return predictions_json, ground_truth_json


def score(predictions_json: Path, ground_truth_json: Path) -> dict[str, Any]:
    table = read_results(find_results(predictions_json), ground_truth_json)
    is_atypical, called = truth_and_calls(table)
    return platform_metrics(is_atypical, table["p_atypical"].to_numpy(), called, find_domains(table))


def expect(stacks: list[Stack], domain: int | None = None) -> dict[str, float]:
    """The figures by counting, one crop after the other."""
    rows = [row for stack in stacks for row in zip(stack["labels"], stack["p"], stack["tumordomains"], strict=True)]
    rows = [row for row in rows if domain in (None, row[2])]
    counts = {(label, called): sum(row[0] == label and (row[1] >= 0.4) == called for row in rows)
              for label in ("normal", "atypical") for called in (False, True)}  # fmt: skip
    tp, fn, tn, fp = (counts[key, call] for key, call in
                      (("atypical", True), ("atypical", False), ("normal", False), ("normal", True)))  # fmt: skip
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": (tp + tn) / len(rows),
        "roc_auc": float(roc_auc_score([row[0] == "atypical" for row in rows], [row[1] for row in rows])),
    }


@pytest.mark.parametrize("key", ["interface", "socket"])
def test_the_figures_are_those_of_counting_crop_by_crop(key: str, tmp_path: Path) -> None:
    stacks = make_stacks()
    got = score(*write(tmp_path, stacks, key))
    assert got.keys() == {"aggregates", "results"}
    assert got["results"] == {}
    aggregates = got["aggregates"]
    overall = {f"overall_{name}": value for name, value in expect(stacks).items()}
    by_domain = {f"domain_{domain}": expect(stacks, domain) for domain in (1, 2, 10)}
    assert list(aggregates)[5:] == ["domain_1", "domain_2", "domain_10"]
    assert aggregates.keys() == overall.keys() | by_domain.keys()
    for name, value in overall.items():
        assert aggregates[name] == pytest.approx(value, rel=0, abs=1e-12)
    for name, values in by_domain.items():
        assert aggregates[name] == pytest.approx(values, rel=0, abs=1e-12)


def test_the_class_is_what_the_file_says_and_the_confidence_is_p_atypical_whatever_it_is(tmp_path: Path) -> None:
    stacks = make_stacks()
    predictions_json, ground_truth_json = write(tmp_path, stacks)
    for path in find_results(predictions_json).values():
        answers = json.loads(path.read_text())
        flipped = [{**answer, "class": "normal" if answer["class"] == "atypical" else "atypical"} for answer in answers]
        path.write_text(json.dumps(flipped))
    got, expected = score(predictions_json, ground_truth_json)["aggregates"], expect(stacks)
    assert got["overall_sensitivity"] == pytest.approx(1 - expected["sensitivity"])
    assert got["overall_roc_auc"] == pytest.approx(expected["roc_auc"])


def test_the_table_is_in_the_order_of_the_ground_truth(tmp_path: Path) -> None:
    predictions_json, ground_truth_json = write(tmp_path, make_stacks())
    table = read_results(find_results(predictions_json), ground_truth_json)
    assert table["image_id"].iloc[[0, 16, 37, 38]].tolist() == ["stack_1.tiff#1", "stack_2.tiff#1", "stack_4.tiff",
                                                                "stack_5.tiff#1"]  # fmt: skip
    assert table["p_atypical"].tolist() == [p for stack in make_stacks() for p in stack["p"]]
    assert table["case"].isna().all()


def test_a_domain_of_one_class_has_what_scikit_learn_gives_the_evaluator(tmp_path: Path) -> None:
    stacks = make_stacks()
    stacks.append({"image": "a.tiff", "labels": ["normal"] * 4, "p": [0.1, 0.2, 0.3, 0.9], "tumordomains": [3] * 4})
    stacks.append({"image": "b.tiff", "labels": ["atypical"] * 2, "p": [0.9, 0.1], "tumordomains": [4] * 2})
    aggregates = score(*write(tmp_path, stacks))["aggregates"]
    assert aggregates["domain_3"] == {"sensitivity": 0, "specificity": 0.75, "balanced_accuracy": 0.375,
                                      "accuracy": 0.75, "roc_auc": None}  # fmt: skip
    assert aggregates["domain_4"] == {"sensitivity": 0.5, "specificity": 0, "balanced_accuracy": 0.25,
                                      "accuracy": 0.5, "roc_auc": None}  # fmt: skip


def test_a_class_that_is_missing_everywhere_fails(tmp_path: Path) -> None:
    only = [{"image": "a.tiff", "labels": ["normal"] * 2, "p": [0.1, 0.9], "tumordomains": [1, 1]}]
    with pytest.raises(DataError, match="a class is missing: got 2 crops, all normal"):
        score(*write(tmp_path, only))


ANSWER = {"class": "normal", "confidence": 0.25}


@pytest.mark.parametrize(
    ("answers", "line"),
    [
        ([{**ANSWER, "confidence": 0}], "page 1 of the result of 'stack_4.tiff' fails the submission: got {"),
        ([{**ANSWER, "confidence": 1}], "a confidence that is a JSON float, as 0.0 or 1.0; correct what the container"),
        ([{**ANSWER, "confidence": None}], '"confidence": null}'),
        ([{**ANSWER, "confidence": float("nan")}], '"confidence": NaN}'),
        ([{**ANSWER, "confidence": "0.25"}], "fails the submission"),
        ([{**ANSWER, "confidence": True}], "fails the submission"),
        ([{**ANSWER, "confidence": 1.5}], "p_atypical is no probability: got 1.5 for crop 37"),
        ([{**ANSWER, "class": "NMF"}], '"class": "NMF"'),
        ([{"class": "normal"}], "fails the submission"),
        ([["normal", 0.25]], 'got ["normal", 0.25]'),
        ([ANSWER, ANSWER], "'stack_4.tiff' has another length than its ground truth: got 2 answers, expected 1;"),
        ([], "cannot be read: got an empty list, expected the result of 'stack_4.tiff'"),
        (ANSWER, "cannot be read: got a JSON dict"),
    ],
)
def test_an_answer_that_fails_a_submission_fails_here_in_one_line(answers: object, line: str, tmp_path: Path) -> None:
    predictions_json, ground_truth_json = write(tmp_path, make_stacks())
    find_results(predictions_json)["stack_4.tiff"].write_text(json.dumps(answers))
    with pytest.raises(DataError) as error:
        score(predictions_json, ground_truth_json)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def drop_image(jobs: list[Any], truth: list[Any]) -> None:
    del jobs[0], jobs[3]


def drop_truth(jobs: list[Any], truth: list[Any]) -> None:
    del truth[0]


def repeat_image(jobs: list[Any], truth: list[Any]) -> None:
    jobs.append(jobs[2])


def repeat_truth(jobs: list[Any], truth: list[Any]) -> None:
    truth.append(truth[0])


def other_slug(jobs: list[Any], truth: list[Any]) -> None:
    jobs[1]["outputs"][0]["interface"]["slug"] = "another"


def no_pk(jobs: list[Any], truth: list[Any]) -> None:
    del jobs[1]["pk"]


def other_label(jobs: list[Any], truth: list[Any]) -> None:
    truth[1]["labels"][0] = "AMF"


def labels_without_an_order(jobs: list[Any], truth: list[Any]) -> None:
    truth[1]["labels"], truth[1]["tumordomains"] = {"normal": 1, "atypical": 2}, truth[1]["tumordomains"][:2]


def too_few_domains(jobs: list[Any], truth: list[Any]) -> None:
    truth[1]["tumordomains"].pop()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (drop_image, "2 images of the ground truth have no result: got 'stack_3.tiff', 'stack_7.tiff'"),
        (drop_truth, "1 images have no ground truth: got 'stack_1.tiff', expected the same images in both"),
        (repeat_image, "predictions.json has an image twice: got 'stack_5.tiff', expected one job an image"),
        (repeat_truth, "entry 8 of"),
        (other_slug, "job 2 of"),
        (no_pk, "is malformed: got KeyError 'pk', expected pk, an input of stacked-histopathology-roi-cropouts"),
        (other_label, "entry 2 of"),
        (labels_without_an_order, "entry 2 of"),
        (too_few_domains, "and as many tumordomains; correct the ground truth"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    change: Callable[[list[Any], list[Any]], None], line: str, tmp_path: Path
) -> None:
    paths = write(tmp_path, make_stacks())
    jobs, truth = (json.loads(path.read_text()) for path in paths)
    change(jobs, truth)
    for path, content in zip(paths, (jobs, truth), strict=True):
        path.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        score(*paths)
    assert line in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    predictions_json, ground_truth_json = write(tmp_path, make_stacks())
    find_results(predictions_json)["stack_2.tiff"].unlink()
    with pytest.raises(DataError, match=r"No such file.*expected the result of 'stack_2.tiff'"):
        score(predictions_json, ground_truth_json)
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read.*expected a list of jobs"):
        find_results(tmp_path / "nowhere.json")
