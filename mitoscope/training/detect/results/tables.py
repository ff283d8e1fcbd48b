"""A study's metrics as Markdown tables: overview, slides with the price of the threshold, sets of weights."""

from collections.abc import Iterator, Mapping
from typing import Any

from mitoscope.markdown import render_share, render_table
from mitoscope.scoring.detection.metrics import METRICS
from mitoscope.scoring.detection.summary import spell_metric

Results = dict[str, Any]
COLUMNS = ("fields", "networks", "figures found", "false alarms", *map(spell_metric, METRICS))
STATES = {
    "member": "published average",
    "raw": "raw weights",
    "averages": "all averages together",
    "tta": "published average, in eight orientations",
}


def overview_rows(results: Results) -> Iterator[list[str]]:
    """One study: out of fold by one network, and each hold-out by one and by all, at the fixed threshold."""
    yield ["out of fold", "one", *_cells(results["out_of_fold"])]
    for name, held_out in results["held_out"].items():
        count, one = held_out["n_networks"], held_out["single_networks"]
        yield [f"held out: {name}", "one" if count == 1 else f"all {count}", *_cells(held_out["ensemble"])]
        if count > 1:
            f1, ap = (f"{one[f'mean_{key}']:.3f} ± {one[f'std_{key}']:.3f}" for key in ("f1_score", "AP"))
            yield [f"held out: {name}", f"one, mean of {count}", "", "", f1, "", "", ap, ""]


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Counts and metrics with their intervals."""
    intervals = row["intervals"]["metrics"] if row["intervals"] else {}
    shares = [render_share(row[key], intervals.get(key)) for key in METRICS]
    return [f"{row['n_found']:,} of {row['n_figures']:,}", f"{row['n_called'] - row['n_found']:,}", *shares]


def render_study(name: str, results: Results) -> str:
    """All tables of one study, as `mitoscope.training.detect.results.evaluate.evaluate_study` returns it."""
    fitted = results["threshold"]
    parts = [
        f"# {name}",
        f"Threshold {fitted['value']:.4f}: the one with the highest F1 of all {fitted['n_crops']:,} fields out of "
        "fold, by one network each.",
        render_table(COLUMNS, list(overview_rows(results))),
        "[95 % interval]: slides drawn with replacement. Found: within 7.5 µm.",
        f"## By slide\n\n{_render_cases(results)}",
        render_price(results),
        f"## Sets of weights, out of fold\n\n{render_states(results['states'])}",
        "Refitted: F1 of all slides, each at the threshold that is best on the others. "
        "Best: at the threshold with the highest F1 of these very slides.",
    ]
    return "\n\n".join(parts) + "\n"


def render_price(results: Results) -> str:
    """What the placement of the threshold costs, in words."""
    price, best = results["price"], results["out_of_fold"]["sweep"]
    if price["summary"] is None:
        return "All fields are of one slide: what the placement of the threshold costs is not known."
    return (
        f"**Price of the threshold.** Fitted on all slides but one and used on that one, it costs "
        f"{price['summary']['mean_points']:.1f} points of F1 against that slide's own best threshold in the mean, and "
        f"{price['summary']['largest_points']:.1f} on the worst. All slides together: F1 "
        f"{render_share(price['f1_score_refitted'])}, against {render_share(best['best_f1_score'])} at the best "
        "threshold of all slides, which their labels have chosen."
    )


def _render_cases(results: Results) -> str:
    """Each slide at the fixed threshold, and the price of placing it without the slide."""
    head = ("slide", "figures found", "false alarms", "F1", "precision", "recall", "AP",
            "threshold of the others", "F1 there", "best F1", "price in points")  # fmt: skip
    rows = []
    for name, row in results["cases"].items():
        cells = _cells({**row, "intervals": None})
        price = results["price"]["cases"].get(name)
        paid = ["–"] * 4
        if price:
            numbers = (price["threshold"], price["f1_score"], price["best_f1_score"])
            paid = [*map(render_share, numbers), f"{price['price_points']:.1f}"]
        rows.append([name, *cells[:-1], *paid])
    return render_table(head, rows)


def render_states(states: Mapping[str, Results]) -> str:
    """The out-of-fold metrics of each set of weights."""
    keys = ("AP", "froc_auc", "f1_score_refitted", "best_f1_score", "best_threshold")
    rows = [[STATES.get(name, name), *(render_share(row[key]) for key in keys)] for name, row in states.items()]
    return render_table(("weights", "AP", "FROC AUC (of 8)", "F1, refitted", "F1, best", "best threshold"), rows)


def render_comparison(studies: Mapping[str, Results]) -> str:
    """A row for each set of fields of each study; the studies by name."""
    rows = [
        [name, *row, *(_spell_fits(results) if row[0] == "out of fold" else [""] * 3)]
        for name, results in studies.items()
        for row in overview_rows(results)
    ]  # fmt: skip
    table = render_table(("study", *COLUMNS, "F1, refitted", "validation loss", "minutes a fold"), rows)
    return (
        "At each study's fixed threshold. F1, refitted: each slide at the threshold of the others. Validation losses "
        f"compare the same loss only, not FCOS's.\n\n{table}\n"
    )


def _spell_fits(results: Results) -> list[str]:
    """F1 at thresholds of other slides, the validation loss, and the mean time of a fit."""
    seconds, refitted = results["study"]["fold_seconds"], results["price"]["f1_score_refitted"]
    return [render_share(refitted), f"{results['validation_loss']:.3f}", f"{sum(seconds) / len(seconds) / 60:.0f}"]
