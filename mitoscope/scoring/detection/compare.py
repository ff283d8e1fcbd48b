"""Two detectors on the same images: which is better, and whether that may be chance."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mitoscope.files import write_json, write_text
from mitoscope.markdown import render_share, render_table
from mitoscope.provenance import describe_code, describe_file
from mitoscope.scoring.detection.bootstrap import bootstrap_region_lead
from mitoscope.scoring.detection.metrics import METRICS
from mitoscope.scoring.detection.regions import Group, make_groups
from mitoscope.scoring.detection.summary import list_rows, spell_metric
from mitoscope.scoring.detection.tables import join_truth, read_detections, read_truth
from mitoscope.scoring.metrics.bootstrap import N_DRAWS
from mitoscope.scoring.metrics.paired import render_lead


def compare_detections(
    first_csv: Path,
    second_csv: Path,
    truth_csv: Path,
    out: Path,
    *,
    thresholds: tuple[float | None, float | None] = (None, None),
    mpp: float | None = None,
    seed: int = 0,
) -> str:
    """Compare two detections.csv of the same images: comparison.json and comparison.md.

    Args:
        first_csv: See `mitoscope.scoring.detection.tables.read_detections`.
        second_csv: The other.
        truth_csv: See `mitoscope.scoring.detection.tables.read_truth`.
        out: The folder for the results; those that lie there are replaced.
        thresholds: The first's and the second's; None: see `read_detections`.
        mpp: µm per pixel; None: from the detections.
        seed: Of the bootstrap.

    Returns:
        The summary, in Markdown.

    Raises:
        DataError: The detections and the truth cannot be used together.
    """
    both = [read_detections(path, value) for path, value in zip((first_csv, second_csv), thresholds, strict=True)]
    truth = read_truth(truth_csv)
    regions = join_truth(both, truth, mpp)
    first, second = ({**each.describe(), "images_not_searched": each.list_unsearched(truth)} for each in both)
    (all_1, *parts_1), (all_2, *parts_2) = (
        make_groups(own, each.threshold) for own, each in zip(regions, both, strict=True)
    )
    domains, kinds = (
        {name: _compare(group, others[name], seed) for name, group in own.items()}
        for own, others in zip(parts_1, parts_2, strict=True)
    )
    results = {
        **describe_code(),
        "inputs": {"first": first, "second": second, "truth": describe_file(truth_csv)},
        "mpp": mpp,
        "seed": seed,
        "n_draws": N_DRAWS,
        "pooled": _compare(all_1, all_2, seed),
        "domains": domains,
        "kinds": kinds,
    }
    summary = render_comparison(results)
    write_json(out / "comparison.json", results)
    write_text(out / "comparison.md", summary)
    return summary


def _compare(first: Group, second: Group, seed: int) -> dict[str, Any]:
    """One group's metrics by either detector, and the paired bootstrap."""
    leads = bootstrap_region_lead(first, second, seed) or {}
    return {
        "n_regions": len(first.regions),
        "n_figures": int(first.counts[2].sum()),
        **{
            name: {
                "first": first.metrics[name],
                "second": second.metrics[name],
                "bootstrap": asdict(leads[name]) if name in leads else None,
            }
            for name in METRICS
        },
    }


def render_comparison(results: dict[str, Any]) -> str:
    """Render the results of one comparison.

    Args:
        results: The content of comparison.json.

    Returns:
        Markdown, with a new line at its end.
    """
    inputs, pooled = results["inputs"], results["pooled"]
    origins = []
    for letter, key in (("A", "first"), ("B", "second")):
        threshold = inputs[key]["threshold"]
        own = f"threshold {threshold['value']:.4f}, from {threshold['origin']}"
        origins.append(f"- {letter}: {inputs[key]['name']}, SHA-256 {inputs[key]['sha256'][:12]}…, {own}")
    head = ("regions", "metric", "A", "B", "A − B [95 % interval]", "p")
    parts = [
        f"# A against B, by {inputs['truth']['name']}",
        "\n".join(origins),
        f"{pooled['n_regions']:,} images, {pooled['n_figures']:,} mitotic figures.",
        render_table(head, [cells for name, row in list_rows(results) for cells in _rows(name, row)]),
        f"Interval and p: paired bootstrap, {results['n_draws']:,} draws of whole cases (of images where the case is "
        f"not known), seed {results['seed']}.",
        *(
            f"**{len(images):,} images of the truth were not searched by {letter}: all their figures count as missed.**"
            for letter, key in (("A", "first"), ("B", "second"))
            if (images := inputs[key]["images_not_searched"])
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(name: str, row: dict[str, Any]) -> list[list[str]]:
    """One group's lines, one a metric."""
    return [
        [
            name,
            spell_metric(key),
            *(render_share(row[key][which]) for which in ("first", "second")),
            *render_lead(row[key]),
        ]
        for key in METRICS
    ]
