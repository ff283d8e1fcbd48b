"""A detector's model card: README.md beside its manifest."""

from collections.abc import Mapping
from typing import Any

from mitoscope.bundle.manifest import Bundle
from mitoscope.markdown import render_table
from mitoscope.training.classify.card import describe_rounding, describe_start
from mitoscope.training.detect.results.tables import COLUMNS, Results, overview_rows, render_price
from mitoscope.training.presets import fill_defaults

CARD = """# {name}

{networks} where in a region of H&E tissue each *{label}* is.

- Input: a region of any size, resampled to {mpp:g} µm/px{density} and read in overlapping tiles of
  at most {size_px} px.
- Output: points with a probability: {output}. A point is called a {label} from {threshold:.4f} on.
  The probabilities are the networks' own, not frequencies.
- **Not for clinical use.** For research only. Nothing here was validated on patients.
- Trained on {data}.
  {start}. Weights: {state}, of the {kept} epoch{chosen}.
- Threshold: rule `{rule}`. It has the highest F1 of all {n_fields:,} fields out of fold, where each field is seen by
  the one network of the study that was not trained on its slide.{single}
- Rounding, against fp32: {rounding}.
- Licence of these weights: MIT. The images that they were trained on have terms of their own, given above.

## What it cannot do
{limits}

## Metrics
{table}

Out of fold: each field by the one network that never saw its slide{flattered}. Found: within 7.5 µm.
[95 % interval]: slides drawn with replacement, {n_cases} of them. All metrics are those of {stored},
computed in fp32.{others}

{price}

| slide | figures found | false alarms | F1 | look-alikes that are called |
| --- | --- | --- | --- | --- |
{slides}

{training}
"""

NO_LABELS_ELSEWHERE = (
    "- It has seen {slides} slides of {domains}. Other tumours, other species, and slides of another laboratory or "
    "scanner may look unlike them: expect more errors there, and count some fields by hand first."
)
FEW_LOOK_ALIKES = (
    "- It has seen {hard:,} labelled look-alikes only, and no labelled necrosis, debris, pigment, ink or folds: expect "
    "false alarms on them."
)
ONLY_WITH_FIGURES = (
    "- {share:.0%} of its fields hold at least one figure. On whole slides most tissue holds none: the false alarms "
    "per mm² are more than these fields show."
)
WHOLE_UNMEASURED = (
    " The network that is stored here was trained by the same recipe on the slides of all folds, so no slide is left "
    "to measure it on:\nthe metrics are those of the study's {n_study} networks, each of which lacked one fold."
)
RESEARCH_DATA = "- Before any use other than research, read the terms of the images: some state no licence."


def render_card(bundle: Bundle, results: Results, with_figures: float) -> str:
    """The model card, in Markdown.

    Args:
        bundle: As it will be written.
        results: As `mitoscope.training.detect.results.evaluate.summarise` returns them.
        with_figures: The share of the training fields that hold a figure, without those that never validate.
    """
    training, pooled = bundle.training, results["out_of_fold"]
    config, label = fill_defaults(training["config"]), bundle.classes[-1]
    count, n_study, state = len(bundle.members), training["study_members"], training["state"]
    whole = bundle.members[0].fold is None
    some = f"{count} of the study's {n_study}" if count < n_study else f"{count}"
    which = ", trained on all folds," if whole else f" of the study's {n_study}" if n_study > 1 else ""
    one = f"One {bundle.architecture} network{which} that finds"
    intervals = pooled["intervals"]
    return CARD.format(
        name=bundle.name,
        networks=one if count == 1 else f"{some} {bundle.architecture} networks that together find",
        label=label,
        mpp=bundle.input.mpp,
        density=", brought to one optical density" if bundle.input.density_mean else "",
        size_px=bundle.input.size_px,
        output="that of the network" if count == 1 else f"the mean of the {count} networks, a miss counts 0",
        threshold=bundle.threshold.value,
        rule=bundle.threshold.rule,
        n_fields=bundle.threshold.n_crops,
        single="" if count == 1 else (
            " Together the networks\n  are more cautious than each alone, so the best threshold of the ensemble may "
            "lie lower; it cannot be fitted without\n  fields that no network saw."
        ),
        rounding=describe_rounding(bundle, "points"),
        data=";\n  ".join(_describe_data(item) for item in training["data"]),
        start=describe_start(config),
        state=_describe_state(state, config),
        kept="last" if whole else config["keep"],
        chosen=" by validation loss" if config["keep"] == "best" and not whole else "",
        limits=_describe_limits(training, results, with_figures),
        table=render_table(COLUMNS, list(overview_rows(results))),
        flattered=", although that network's epoch was chosen on these fields" if config["keep"] == "best" else "",
        n_cases=intervals["n_cases"] if intervals else 1,
        others=WHOLE_UNMEASURED.format(n_study=n_study) if whole else "" if count == n_study else (
            f" The networks of the study that are not stored here ({n_study - count}) count with the weights they were "
            "fitted with."
        ),
        stored="the weights as they were fitted" if whole else "the weights as stored here",
        price=render_price(results),
        slides="\n".join(_slide_row(name, row) for name, row in results["cases"].items()),
        training=_describe_training(training),
    )  # fmt: skip


def _describe_data(item: Mapping[str, Any]) -> str:
    """One data set: counts and licence."""
    points = ", ".join(f"{count:,} of {label}" for label, count in item["points"].items()) or "no points"
    slides = f" of {item['cases']} slides" if item["cases"] and not item["train_only"] else ", in training only"
    return f"{item['name']} ({item['fields']:,} fields{slides}; {points}; {item['licence']})"


def _describe_state(state: str, config: Mapping[str, Any]) -> str:
    """Which of the weights that a fit keeps."""
    if state == "raw":
        return "as the optimiser left them"
    return f"a moving average with decay {config['ema_decay'] if state == 'member' else state.removeprefix('ema_')}"


def _describe_limits(training: Mapping[str, Any], results: Results, with_figures: float) -> str:
    """What the data do not cover, from what they are."""
    data = training["data"]
    domains = sorted(results["domains"]) or ["an unknown tumour"]
    hard = sum(item["points"].get("hard negative", 0) for item in data)
    lines = [
        NO_LABELS_ELSEWHERE.format(slides=training["slides"], domains=", ".join(domains)),
        FEW_LOOK_ALIKES.format(hard=hard),
    ]
    if with_figures > 0.5:
        lines.append(ONLY_WITH_FIGURES.format(share=with_figures))
    if any("no licence" in item["licence"] for item in data):
        lines.append(RESEARCH_DATA)
    return "\n".join(lines)


def _slide_row(name: str, row: Mapping[str, Any]) -> str:
    """One slide."""
    found, alarms = f"{row['n_found']:,} of {row['n_figures']:,}", row["n_called"] - row["n_found"]
    called = f"{row['n_hard_negatives_called']:,} of {row['n_hard_negatives']:,}"
    return f"| {name} | {found} | {alarms:,} | {row['f1_score']:.3f} | {called} |"


def _describe_training(training: Mapping[str, Any]) -> str:
    """How long training took, by which commit, with which preset."""
    minutes = sum(training["fold_seconds"]) / 60
    return (
        f"Preset `{training['preset']}`; the study's {len(training['fold_seconds'])} fits took {minutes:.0f} minutes. "
        f"Trained by commit {training['commit']}."
    )
