import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.detection.tables import EVERY_ROW, join_truth, read_detections, read_truth

HEAD = "image,x_um,y_um,x_px,y_px,p_mitosis\n"
ROWS = f"{HEAD}a.tif,25,50,100,200,0.9\na.tif,100,100,400,400,0.2\nb.tif,46,23,200,100,0.6\n"
TRUTH = (
    "image,x_px,y_px,label,domain,case\na.tif,101,200,mitotic figure,lung,H1\na.tif,400,400,hard negative,lung,H1\n"
    "b.tif,200,100,mitotic figure,,\nc.tif,9,9,mitotic figure,skin,H2\n"
)


@pytest.fixture
def detections_csv(tmp_path: Path) -> Path:
    (tmp_path / "detections.csv").write_text(ROWS)
    return tmp_path / "detections.csv"


@pytest.fixture
def truth_csv(tmp_path: Path) -> Path:
    (tmp_path / "truth.csv").write_text(TRUTH)
    return tmp_path / "truth.csv"


def test_each_image_has_its_own_scale(detections_csv: Path, truth_csv: Path) -> None:
    [[a, b, c]] = join_truth([read_detections(detections_csv, 0.5)], read_truth(truth_csv), None)
    assert [region.image for region in (a, b, c)] == ["a.tif", "b.tif", "c.tif"]
    np.testing.assert_allclose(a.figures_mm, [[0.02525, 0.05]])  # .25 µm/px
    np.testing.assert_allclose(a.hard_negatives_mm, [[0.1, 0.1]])
    np.testing.assert_allclose(b.figures_mm, [[0.046, 0.023]])  # .23
    assert a.called.tolist() == [True, False]
    assert (a.domain, a.case, b.domain, b.case, a.kind) == ("lung", "H1", None, None, None)
    assert [region.n_found for region in (a, b, c)] == [1, 1, 0]
    assert (len(c.points_mm), len(c.figures_mm)) == (0, 1)


def test_pixels_need_not_be_square(tmp_path: Path, truth_csv: Path) -> None:
    """As those of a scanner of MITOS-ATYPIA-14: .2273 µm across, .2275 µm down."""
    places = [(7000, 5300), (10, 5000), (6500, 40)]
    rows = [f"a.tif,{x * 0.2273:.3f},{y * 0.2275:.3f},{x},{y},0.9" for x, y in places]
    (tmp_path / "d.csv").write_text("\n".join(["image,x_um,y_um,x_px,y_px,p_mitosis", *rows]))
    [[a, *_]] = join_truth([read_detections(tmp_path / "d.csv")], read_truth(truth_csv), None)
    np.testing.assert_allclose(a.figures_mm, [[101 * 0.0002273, 200 * 0.0002275]], rtol=1e-5)


def test_mpp_replaces_the_scale_of_the_detections(detections_csv: Path, truth_csv: Path) -> None:
    [[a, *_]] = join_truth([read_detections(detections_csv)], read_truth(truth_csv), 0.5)
    np.testing.assert_allclose(a.points_mm, [[0.05, 0.1], [0.2, 0.2]])
    np.testing.assert_allclose(a.figures_mm, [[0.0505, 0.1]])


def test_the_threshold_is_the_users_else_the_records_else_every_row_counts(detections_csv: Path) -> None:
    found = read_detections(detections_csv)
    assert (found.threshold, found.origin) == (0.2, EVERY_ROW)
    record = {"csv_sha256": hashlib.sha256(detections_csv.read_bytes()).hexdigest(), "bundle": {"threshold": 0.55}}
    path = detections_csv.with_name("detections.csv.json")
    path.write_text(json.dumps(record))
    found = read_detections(detections_csv)
    assert (found.threshold, found.origin) == (0.55, "detections.csv.json")
    assert read_detections(detections_csv, 0.7).origin == "--threshold"
    path.write_text(json.dumps({**record, "bundle": {}}))
    with pytest.raises(DataError, match=r"detections\.csv\.json holds no threshold: got KeyError 'threshold'"):
        read_detections(detections_csv)
    path.write_text(json.dumps({**record, "csv_sha256": "0"}))
    with pytest.raises(DataError, match=r"detections\.csv was changed after it was made"):
        read_detections(detections_csv)


def test_the_record_names_the_images_that_were_searched(detections_csv: Path, truth_csv: Path) -> None:
    images = [{"image": name} for name in ("a.tif", "b.tif", "empty.tif")]
    digest = hashlib.sha256(detections_csv.read_bytes()).hexdigest()
    record = {"csv_sha256": digest, "bundle": {"threshold": 0.55}, "images": images}
    detections_csv.with_name("detections.csv.json").write_text(json.dumps(record))
    for threshold in (None, 0.5):
        [regions] = join_truth([read_detections(detections_csv, threshold)], read_truth(truth_csv), None)
        assert [region.image for region in regions] == ["a.tif", "b.tif", "c.tif", "empty.tif"]
    del record["images"]
    detections_csv.with_name("detections.csv.json").write_text(json.dumps(record))
    assert read_detections(detections_csv).searched is None  # not known, which is not "none"
    detections_csv.write_text(ROWS.replace("0.9", "0.8"))
    assert read_detections(detections_csv, 0.5).searched is None  # it is the record of another table


def test_a_file_without_a_row_is_a_result(detections_csv: Path, truth_csv: Path) -> None:
    detections_csv.write_text(HEAD)
    [regions] = join_truth([read_detections(detections_csv)], read_truth(truth_csv), None)
    assert [(len(region.points_mm), len(region.figures_mm)) for region in regions] == [(0, 1)] * 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (ROWS.replace("0.9", "1.2"), "p_mitosis is no probability: got 1.2 for 'a.tif' and 1 such in all"),
        (ROWS.replace("100,200", "left,200"), "x_px is no number: got left for 'a.tif'"),
        (ROWS.replace("100,200", "inf,200"), "x_px is no number: got inf for 'a.tif'"),
        (ROWS.replace("x_um,", ""), "cannot be read: got rows with more cells than there are columns"),
        (ROWS.replace("x_um", "x"), "is not a usable table: got no x_um, but image, x, y_um"),
        (ROWS.replace("0.9", ""), "has an empty p_mitosis: got line 2"),
        ("", "cannot be read: got No columns to parse"),
    ],
)
def test_unusable_detections_are_one_line(text: str, line: str, detections_csv: Path) -> None:
    detections_csv.write_text(text)
    with pytest.raises(DataError) as error:
        read_detections(detections_csv)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            TRUTH.replace("hard negative", "imposter"),
            "has an unknown label: got ['imposter'], expected mitotic figure, ha",
        ),
        (TRUTH.replace("400,400,", "400,,"), "has an empty y_px: got line 3"),
        (TRUTH.replace("400,400,", "400,nan,"), "y_px is no number: got nan for 'a.tif'"),
        (TRUTH.replace("domain", "Domain"), "has misspelt columns: got ['Domain'], expected ('domain', 'case')"),
        (
            TRUTH.replace("hard negative,lung", "hard negative,skin"),
            "an image has several values in the column domain: go",
        ),
        (
            TRUTH.replace("hard negative,lung,H1", "hard negative,lung,"),
            "an image has several values in the column case",
        ),
        (TRUTH.splitlines()[0], "is not a usable table: got no rows"),
    ],
)
def test_an_unusable_truth_is_one_line(text: str, line: str, truth_csv: Path) -> None:
    truth_csv.write_text(text)
    with pytest.raises(DataError) as error:
        read_truth(truth_csv)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "mpp", "line"),
    [
        (
            {"x_um": [25, 150, 46]},
            None,
            "the scale of 'a.tif' is not known: got x_um, y_um and x_px, y_px that differ by",
        ),
        ({"x_px": [0, 0, 200], "y_px": [0, 0, 100]}, None, "that are 0 or of two signs"),
        (
            {"image": ["d", "d", "e"]},
            None,
            "and the truth have no image in common: got 'd' and 'a.tif', expected the same",
        ),
        ({}, 0.0, "--mpp is out of range: got 0.0, expected a number above 0"),
        ({}, float("nan"), "--mpp is out of range: got nan"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(
    change: dict[str, list[object]], mpp: float | None, line: str, detections_csv: Path, truth_csv: Path
) -> None:
    pd.read_csv(detections_csv).assign(**change).to_csv(detections_csv, index=False)
    with pytest.raises(DataError) as error:
        join_truth([read_detections(detections_csv)], read_truth(truth_csv), mpp)
    assert line in str(error.value)


def test_rounded_coordinates_keep_their_scale(detections_csv: Path, truth_csv: Path) -> None:
    table = pd.read_csv(detections_csv).assign(x_um=[25.1, 99.9, 46.1], y_um=[49.9, 100.1, 22.9])
    table.to_csv(detections_csv, index=False)
    [[a, b, _]] = join_truth([read_detections(detections_csv)], read_truth(truth_csv), None)
    np.testing.assert_allclose(a.figures_mm[0], [0.02525, 0.05], atol=1e-4)
    np.testing.assert_allclose(a.points_mm[0], [0.0251, 0.0499])
    np.testing.assert_allclose(b.figures_mm[0], [0.046, 0.023], atol=1e-4)
