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

import mitoscope.scoring.plots.style
from mitoscope.errors import DataError
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.plots import (
    plot_calibration,
    plot_confusion_matrices,
    plot_precision_recall_curves,
    plot_roc_curves,
    plot_sweeps,
)

ROOT = Path(__file__).resolve().parents[4]
Plot = Callable[[Sequence[Group], Path], None]
PLOTS = [plot_roc_curves, plot_confusion_matrices, plot_precision_recall_curves, plot_calibration, plot_sweeps]
SQUARES = (plot_roc_curves, plot_precision_recall_curves)
each = pytest.mark.parametrize("plot", PLOTS)


def make_groups(number: int) -> list[Group]:
    """Groups of 80 crops of 20 cases, each its own scores and threshold."""
    groups = []
    for seed in range(number):
        random, truth = np.random.default_rng(seed), np.arange(80) % 5 == 0
        scores = random.beta(2, 4, 80) * 0.7 + truth * 0.2
        groups.append(Group.at_threshold(f"cancer {seed}", truth, scores, 0.4 + seed / 100, np.arange(80) // 4))
    return groups


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Plot, list[Group]], Figure]:
    """A function (plot, groups) that gives the figure which the plot would save."""

    def figure_of(plot: Plot, groups: list[Group]) -> Figure:
        saved: list[Figure] = []

        def save(figure: Figure, path: Path, **_: object) -> None:
            saved.append(figure)
            path.touch()

        with monkeypatch.context() as patch:
            patch.setattr(Figure, "savefig", save)
            plot(groups, tmp_path / "picture.svg")
        return saved[0]

    return figure_of


def test_each_curve_has_its_own_look_its_metrics_and_its_operating_point(
    draw: Callable[[Plot, list[Group]], Figure],
) -> None:
    groups = make_groups(14)
    figure = draw(plot_roc_curves, groups)
    diagonal, *drawn = figure.axes[0].lines
    curves, points = drawn[::2], drawn[1::2]
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert figure.axes[0].get_aspect() == 1
    assert len({(curve.get_color(), curve.get_linestyle()) for curve in curves}) == 14
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    for group, curve, point, label in zip(groups, curves, points, labels[:14], strict=True):
        at, (low, high) = group.metrics, group.intervals.roc_auc
        assert label == f"{at['roc_auc']:.3f} [{low:.3f}, {high:.3f}]  {group.name}"
        assert np.trapezoid(*curve.get_xydata().T[::-1]) == pytest.approx(at["roc_auc"])
        assert point.get_xydata()[0] == pytest.approx([1 - at["specificity"], at["sensitivity"]])
        assert point.get_color() == curve.get_color()
    assert labels[14] == "at each one's own threshold"


def test_one_fixed_threshold_is_named(draw: Callable[[Plot, list[Group]], Figure]) -> None:
    figure = draw(plot_roc_curves, make_groups(1) * 2)
    assert figure.legends[0].get_texts()[-1].get_text() == "at the threshold 0.400"


def test_classes_that_no_threshold_explains_have_no_point_on_the_curve(
    draw: Callable[[Plot, list[Group]], Figure],
) -> None:
    group = make_groups(1)[0]
    as_given = replace(group, called=group.is_atypical, threshold=None)
    for plot in SQUARES:
        axes_of, legends = draw(plot, [as_given]).axes[0], draw(plot, [as_given]).legends
        assert not [line for line in axes_of.lines if line.get_marker() == "o"]
        assert len(legends[0].get_texts()) == 1
    (panel,) = draw(plot_confusion_matrices, [as_given]).axes
    assert panel.get_title() == "cancer 0\nclasses as given"
    assert [text.get_text() for text in panel.texts] == ["64\n100.0 %", "0\n0.0 %", "0\n0.0 %", "16\n100.0 %"]


def test_a_group_of_one_case_has_a_curve_without_an_interval(draw: Callable[[Plot, list[Group]], Figure]) -> None:
    group = replace(make_groups(1)[0], case=np.full(80, "slide1"))
    label = draw(plot_roc_curves, [group]).legends[0].get_texts()[0].get_text()
    assert label == f"{group.metrics['roc_auc']:.3f} [one case]  cancer 0"


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


@each
@pytest.mark.parametrize("number", [1, 14])
def test_nothing_is_cut_off_or_squeezed(plot: Plot, number: int, draw: Callable[[Plot, list[Group]], Figure]) -> None:
    long = replace(make_groups(1)[0], name="_canine cutaneous mast cell tumor of a dog that cost $_$5")
    figure = draw(plot, [long] * number)
    with matplotlib.rc_context(mitoscope.scoring.plots.style.STYLE):
        figure.savefig("/dev/null", format="png")
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width <= 3.5
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0
    assert figure.axes[0].get_window_extent().height / figure.dpi >= (2.8 if plot in SQUARES else 0.85)


@pytest.fixture(scope="module")
def drawn_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each picture of two groups, drawn by another process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    code = (
        "import sys; from pathlib import Path; import numpy as np; from mitoscope.scoring import plots\n"
        "from mitoscope.scoring.metrics.groups import Group\n"
        "truth, case = np.arange(80) % 5 == 0, np.arange(80) // 4\n"
        "scores = [np.random.default_rng(k).beta(2, 4, 80) * 0.7 + truth * 0.2 for k in (0, 1)]\n"
        "groups = [Group.at_threshold(f'cancer {k}', truth, scores[k], 0.4 + k / 100, case) for k in (0, 1)]\n"
        f"for name in {[plot.__name__ for plot in PLOTS]}:\n"
        "    for suffix in ('.svg', '.png'):\n"
        f"        getattr(plots, name)(groups, Path({str(folder)!r}) / (name + suffix))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True, timeout=120)
    return folder


@each
@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_pictures_are_whole_and_the_same_in_every_process(
    plot: Plot, suffix: str, tmp_path: Path, drawn_elsewhere: Path
) -> None:
    here, there = tmp_path / "new" / f"here{suffix}", drawn_elsewhere / f"{plot.__name__}{suffix}"
    before = dict(matplotlib.rcParams)
    plot(make_groups(2), here)
    assert dict(matplotlib.rcParams) == before
    assert hashlib.sha256(here.read_bytes()).digest() == hashlib.sha256(there.read_bytes()).digest()
    assert list(here.parent.iterdir()) == [here]
    if suffix == ".svg":
        assert ElementTree.parse(here).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert b"dc:date" not in here.read_bytes()
    else:
        with Image.open(here) as image:
            assert image.format == "PNG"
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@each
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(plot: Plot, tmp_path: Path) -> None:
    for number in (0, 15):
        with pytest.raises(DataError, match=f"these groups cannot share a picture: got {number} groups, expected 1 to"):
            plot(make_groups(number), tmp_path / "picture.svg")
    with pytest.raises(DataError, match=r"picture\.pdf cannot be drawn: got '\.pdf', expected \.svg or \.png"):
        plot(make_groups(1), tmp_path / "picture.pdf")
    assert not list(tmp_path.iterdir())
