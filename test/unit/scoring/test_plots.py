import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import confusion_matrix

import scoring.plots
from model.errors import DataError
from scoring.bootstrap import bootstrap
from scoring.metrics import figures
from scoring.plots import Group, plot_confusion_matrices, plot_roc_curves

ROOT = Path(__file__).resolve().parents[3]
Plot = Callable[[Sequence[Group], Path], None]
both = pytest.mark.parametrize("plot", [plot_roc_curves, plot_confusion_matrices])


def make_groups(number: int) -> list[Group]:
    """Groups of 80 crops of 20 cases, each its own scores and threshold."""
    groups = []
    for seed in range(number):
        random, truth = np.random.default_rng(seed), np.arange(80) % 5 == 0
        scores = random.beta(2, 4, 80) * 0.7 + truth * 0.2
        groups.append(Group(f"cancer {seed}", truth, scores, 0.4 + seed / 100, np.arange(80) // 4))
    return groups


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable[[Plot, list[Group]], Figure]:
    """A function (plot, groups) that gives the figure which the plot would save."""

    def figure_of(plot: Plot, groups: list[Group]) -> Figure:
        saved: list[Figure] = []
        monkeypatch.setattr(scoring.plots, "_save", lambda figure, _path: saved.append(figure))
        plot(groups, Path("picture.svg"))
        return saved[0]

    return figure_of


def test_each_curve_has_its_own_look_its_figures_and_its_operating_point(
    draw: Callable[[Plot, list[Group]], Figure],
) -> None:
    groups = make_groups(12)
    figure = draw(plot_roc_curves, groups)
    diagonal, *drawn = figure.axes[0].lines
    curves, points = drawn[::2], drawn[1::2]
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert figure.axes[0].get_aspect() == 1
    assert len({(curve.get_color(), curve.get_linestyle()) for curve in curves}) == 12
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    for group, curve, point, label in zip(groups, curves, points, labels[:12], strict=True):
        at = figures(group.is_atypical, group.p_atypical, group.threshold)
        low, high = bootstrap(group.is_atypical, group.p_atypical, group.threshold, group.case).roc_auc
        assert label == f"{at['roc_auc']:.3f} [{low:.3f}, {high:.3f}]  {group.name}"
        assert np.trapezoid(*curve.get_xydata().T[::-1]) == pytest.approx(at["roc_auc"])
        assert point.get_xydata()[0] == pytest.approx([1 - at["specificity"], at["sensitivity"]])
        assert point.get_color() == curve.get_color()
    assert labels[12] == "at each one's own threshold"


def test_one_fixed_threshold_is_named(draw: Callable[[Plot, list[Group]], Figure]) -> None:
    figure = draw(plot_roc_curves, make_groups(1) * 2)
    assert figure.legends[0].get_texts()[-1].get_text() == "at the threshold 0.400"


def test_each_panel_holds_its_counts_and_the_shares_of_its_rows(draw: Callable[[Plot, list[Group]], Figure]) -> None:
    groups = make_groups(4)
    panels = draw(plot_confusion_matrices, groups).axes
    assert [axes.axison for axes in panels] == [True] * 4 + [False] * 2
    for axes, group in zip(panels, groups, strict=False):
        called = group.p_atypical >= group.threshold
        counts = confusion_matrix(group.is_atypical, called)
        shares = confusion_matrix(group.is_atypical, called, normalize="true")
        assert np.asarray(axes.images[0].get_array()) == pytest.approx(shares)
        pairs = zip(counts.flat, shares.flat, strict=True)
        assert [text.get_text() for text in axes.texts] == [f"{n:,}\n{100 * share:.1f} %" for n, share in pairs]
        assert axes.get_title() == f"{group.name}\nthreshold {group.threshold:.3f}"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["Normal", "Atypical"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["Normal", "Atypical"]


@both
@pytest.mark.parametrize("number", [1, 2, 3, 7, 12])
def test_nothing_is_cut_off_or_squeezed(plot: Plot, number: int, draw: Callable[[Plot, list[Group]], Figure]) -> None:
    long = replace(make_groups(1)[0], name="_canine cutaneous mast cell tumor of a dog that cost $_$5")
    figure = draw(plot, [long] * number)
    with matplotlib.rc_context(scoring.plots.STYLE):
        figure.savefig("/dev/null", format="png")
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width <= 3.5
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0
    assert figure.axes[0].get_window_extent().height / figure.dpi >= (2.8 if plot is plot_roc_curves else 0.9)


@both
@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_pictures_are_whole_and_the_same_in_every_process(plot: Plot, suffix: str, tmp_path: Path) -> None:
    here, there = tmp_path / "new" / f"here{suffix}", tmp_path / f"there{suffix}"
    before = dict(matplotlib.rcParams)
    plot(make_groups(2), here)
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys; from pathlib import Path; import numpy as np; from scoring import plots\n"
        "truth, case = np.arange(80) % 5 == 0, np.arange(80) // 4\n"
        "scores = [np.random.default_rng(k).beta(2, 4, 80) * 0.7 + truth * 0.2 for k in (0, 1)]\n"
        "groups = [plots.Group(f'cancer {k}', truth, scores[k], 0.4 + k / 100, case) for k in (0, 1)]\n"
        f"plots.{plot.__name__}(groups, Path({str(there)!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True, timeout=120)
    assert hashlib.sha256(here.read_bytes()).digest() == hashlib.sha256(there.read_bytes()).digest()
    assert list(here.parent.iterdir()) == [here]
    if suffix == ".svg":
        assert ElementTree.parse(here).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert b"dc:date" not in here.read_bytes()
    else:
        with Image.open(here) as image:
            assert image.format == "PNG"
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@both
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(plot: Plot, tmp_path: Path) -> None:
    for number in (0, 13):
        with pytest.raises(DataError, match=f"these groups cannot share a picture: got {number} groups, expected 1 to"):
            plot(make_groups(number), tmp_path / "picture.svg")
    with pytest.raises(DataError, match=r"picture\.pdf cannot be drawn: got '\.pdf', expected \.svg or \.png"):
        plot(make_groups(1), tmp_path / "picture.pdf")
    assert not list(tmp_path.iterdir())


def test_a_group_that_is_unusable_is_named() -> None:
    truth, scores = np.array([True, False]), np.array([0.9, 0.1])
    with pytest.raises(DataError, match="^melanoma: a class is missing: got 2 crops, all atypical"):
        Group("melanoma", truth | True, scores, 0.5)
    with pytest.raises(DataError, match="^melanoma: the threshold is unusable: got nan"):
        Group("melanoma", truth, scores, np.nan)
