import pandas as pd
import pytest

from mitoscope.training.data.duplicates import BY_NAME, BY_PIXELS, BY_PLACE, remove_duplicates
from mitoscope.training.data.table import COLUMNS, KNOWN_BY_SOME


def rows(*known: dict[str, object]) -> pd.DataFrame:
    table = pd.DataFrame([{"image_id": f"x/{k}", "source": "x", **row} for k, row in enumerate(known)])
    return table.reindex(columns=[*COLUMNS, *KNOWN_BY_SOME])


def pixels(*labels_and_pixels: tuple[str, str]) -> pd.DataFrame:
    return rows(*({"label": label, "sha256": digest} for label, digest in labels_and_pixels))


def test_one_of_two_equal_crops_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    kept = remove_duplicates(pixels(("normal", "a"), ("normal", "b"), ("normal", "a")), BY_PIXELS)
    assert kept["image_id"].tolist() == ["x/0", "x/1"]
    assert kept.index.tolist() == [0, 1]
    assert "removed 1 crops of x: the same pixels came before" in capsys.readouterr().out


def test_equal_crops_with_two_labels_are_all_removed_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    table = pixels(("normal", "a"), ("atypical", "a"), ("normal", "a"), ("normal", "b"))
    assert remove_duplicates(table, BY_PIXELS)["image_id"].tolist() == ["x/3"]
    said = capsys.readouterr().out.splitlines()
    assert said == ["removed x/0 (normal), x/1 (atypical), x/2 (normal): two labels for the same pixels"]


def test_two_figures_are_one_at_the_same_place_of_the_same_slide_only() -> None:
    place = {"case": "MIDOG21/002.tiff", "x_px": 5, "y_px": 6, "label": "normal"}
    table = rows(place, {**place, "y_px": 7}, {**place, "case": "MIDOG++/002.tiff"}, {**place, "source": "y"})
    kept = remove_duplicates(table, BY_PLACE)
    assert kept["image_id"].tolist() == ["x/0", "x/1", "x/2"]


def test_rows_of_unknown_place_are_copies_of_nothing() -> None:
    unknown = {"case": "MIDOG21/002.tiff", "label": "normal"}
    assert len(remove_duplicates(rows(unknown, unknown, {"label": "atypical"}, {"label": "normal"}), BY_PLACE)) == 4


def test_what_the_first_does_not_know_is_taken_from_its_copy() -> None:
    place = {"case": "MIDOG21/002.tiff", "x_px": 5, "y_px": 6, "label": "normal"}
    table = rows({**place, "cohort": "MIDOG21"}, {**place, "cohort": "MIDOG25", "scanner": "XR", "path": "1.png"})
    kept = remove_duplicates(table, BY_PLACE).iloc[0]
    assert kept[["image_id", "cohort", "scanner", "path"]].tolist() == ["x/0", "MIDOG21", "XR", "1.png"]


def test_a_file_listed_twice_is_one_crop() -> None:
    table = rows({"label": "normal"}, {"image_id": "x/0", "label": "normal"})
    assert len(remove_duplicates(table, BY_NAME)) == 1
