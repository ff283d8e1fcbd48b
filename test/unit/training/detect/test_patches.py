from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mitoscope.bundle.inputs import InputSpec
from mitoscope.errors import DataError
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.patches import EMPTY, FIGURE, LOOK_ALIKE, draw_fields, list_patches, list_tiles
from mitoscope.training.detect.settings import DetectSettings

SETTINGS = DetectSettings(input=InputSpec(crop_px=32, size_px=32, mpp=0.5))
N_DRAWS = 40_000


def draw(data: FieldData, settings: DetectSettings) -> pd.DataFrame:
    """What is drawn, one row a draw."""
    patches = list_patches(data, np.arange(len(data.table)), settings)
    chosen = [patch for patch, _, _ in patches.sampler(N_DRAWS, seed=1)]
    return patches.table.iloc[chosen]


def assert_near(share: float, expected: float, n_draws: int = N_DRAWS) -> None:
    """Within four standard errors."""
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n_draws)


def test_half_of_the_patches_have_a_figure_and_data_sets_slides_and_patches_are_drawn_alike(fields: FieldData) -> None:
    drawn = draw(fields, SETTINGS)
    n_slides = {"A": 3, "B": 2, "C": 1}
    n_figures = {"a1": 3, "a2": 1, "a3": 8, "b1": 5, "b2": 2, "c1": 1}
    assert_near((drawn["kind"] == FIGURE).mean(), 1 / 2)
    for _, side in drawn.groupby(drawn["kind"] == FIGURE):
        sources, slides = side.groupby("source").size(), side.groupby(["source", "case"]).size()
        for count in sources:
            assert_near(count / len(side), 1 / 3, len(side))  # 1 / D
        assert len(slides) == len(n_figures)
        for (source, _), count in slides.items():
            assert_near(count / len(side), 1 / 3 / n_slides[source], len(side))  # 1 / D · 1 / S_d
    patches = drawn[drawn["kind"] == FIGURE].groupby(["source", "case", "x_px", "y_px"]).size()
    assert len(patches) == sum(n_figures.values())
    for (source, case, _, _), count in patches.items():
        assert_near(count / len(drawn), 1 / 2 / 3 / n_slides[source] / n_figures[case])  # 1/2 · 1/D · 1/S_d · 1/K_s


@pytest.mark.parametrize(("case", "share"), [("a1", 0.25), ("a3", 0.0)])
def test_look_alikes_have_their_share_where_a_slide_has_some(fields: FieldData, case: str, share: float) -> None:
    drawn = draw(fields, replace(SETTINGS, look_alike_share=0.25))
    others = drawn[(drawn["kind"] != FIGURE) & (drawn["case"] == case)]
    got = (others["kind"] == LOOK_ALIKE).mean()
    assert got == 0 if share == 0 else abs(got - share) < 4 * np.sqrt(share * (1 - share) / len(others))


def test_a_share_of_the_fields_keeps_every_data_set_and_grows_with_the_share(fields: FieldData) -> None:
    rows = np.arange(6)
    half, all_but_one = draw_fields(fields, rows, 0.5, seed=3), draw_fields(fields, rows, 0.9, seed=3)
    assert fields.table["source"].iloc[half].value_counts().to_dict() == {"A": 2, "B": 1, "C": 1}
    assert set(half) <= set(all_but_one) <= set(draw_fields(fields, rows, 1.0, seed=3)) == set(rows)
    assert len({tuple(draw_fields(fields, rows, 0.5, seed)) for seed in range(20)}) > 1


def test_the_weights_are_chances(fields: FieldData) -> None:
    for settings in (SETTINGS, replace(SETTINGS, hierarchical=False), replace(SETTINGS, figure_share=0.2)):
        table = list_patches(fields, np.arange(6), settings).table
        assert table["weight"].sum() == pytest.approx(1)
        assert table.loc[table["kind"] == FIGURE, "weight"].sum() == pytest.approx(settings.figure_share)
    flat = list_patches(fields, np.arange(6), replace(SETTINGS, hierarchical=False)).table
    assert flat.groupby(flat["kind"] == FIGURE)["weight"].nunique().tolist() == [1, 1]


def test_no_figure_is_where_a_patch_is_called_empty(fields: FieldData) -> None:
    table = list_patches(fields, np.arange(6), SETTINGS).table
    figures = fields.points_of(np.arange(6)).query("label == 'mitotic figure'")
    for row, x, y, kind in table[["row", "x_px", "y_px", "kind"]].itertuples(index=False):
        own = figures[figures["row"] == row]
        inside = (abs(own["x_px"] - x) < 16) & (abs(own["y_px"] - y) < 16)
        assert kind != EMPTY or not inside.any()
    assert (table["kind"] == EMPTY).sum() >= 6 * 12  # the lower halves


def test_other_rows_are_not_drawn_from_and_classes_are_named_by_the_settings(fields: FieldData) -> None:
    assert set(list_patches(fields, np.array([0, 3]), SETTINGS).table["row"]) == {0, 3}
    turned = replace(SETTINGS, classes=("hard negative",))
    table = list_patches(fields, np.arange(6), turned).table
    assert (table["kind"] == FIGURE).sum() == 11
    with pytest.raises(DataError, match="expected points of lymphocyte"):
        list_patches(fields, np.arange(6), replace(SETTINGS, classes=("lymphocyte",)))


@pytest.mark.parametrize(("size", "n_tiles"), [((64, 32), 2), ((65, 33), 6), ((20, 10), 1)])
def test_tiles_cover_a_field_and_stay_inside(size: tuple[int, int], n_tiles: int) -> None:
    tiles = list_tiles(*size, 32)
    covered = np.zeros(size, dtype=int)
    for left, top in tiles:
        assert left >= 0 and top >= 0
        assert left + 32 <= max(32, size[0]) and top + 32 <= max(32, size[1])
        covered[left : left + 32, top : top + 32] += 1
    assert len(tiles) == n_tiles and covered.all()


def test_glass_is_no_patch(fields: FieldData) -> None:
    glass = replace(fields, pixels=fields.pixels.copy())
    glass.field(0)[96:] = 250  # the lower half, which holds no point
    kinds = {
        name: list_patches(data, np.arange(6), SETTINGS).table for name, data in (("all", fields), ("glass", glass))
    }
    empty = {name: table[(table["row"] == 0) & (table["kind"] == EMPTY)]["y_px"] for name, table in kinds.items()}
    assert (empty["all"] >= 112).any()
    assert not (empty["glass"] >= 112).any()
    assert (empty["glass"] < 96).any()
