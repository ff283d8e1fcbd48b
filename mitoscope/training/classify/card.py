"""A bundle's model card: README.md beside its manifest."""

from collections.abc import Mapping
from typing import Any

from mitoscope.bundle.manifest import Bundle
from mitoscope.markdown import render_table
from mitoscope.networks.build import name_backbone
from mitoscope.networks.foundation import FOUNDATION, may_be_passed_on
from mitoscope.training.bases.pretrained import PACKAGES
from mitoscope.training.bases.weights import find_licence, find_source
from mitoscope.training.classify.tables import COLUMNS, Results, overview_rows
from mitoscope.training.presets import fill_defaults

CARD = """# {name}

{networks} that a mitotic figure is *atypical*.

- Input: the central {crop_px} × {crop_px} px of a 128 × 128 px H&E crop at about {mpp:g} µm/px, resized to
  {size_px} × {size_px} px.
- Output: {output}. A crop is called atypical from {threshold:.4f} on.
- **Not for clinical use.** For research on crops like those below. Nothing here was validated on patients.
- Trained on: {data}. {start}.
  {fitted}.
- Calibration: {calibration}.
- Threshold: rule `{rule}`, fitted on {fitted_on}.
- Rounding, against fp32: {rounding}.
- The manifest holds the stain and sharpness of the training crops. Inference names the crops that lie outside of them.
- {licence} The licences of the data are given above.

{table}

Out of fold: each crop is predicted by the one network that never saw its slide{flattered}. Held out: crops that were
never trained on and never used to place the threshold; duplicates with the same pixels are removed. All metrics are
those of the weights as stored here, computed in fp32.

{training}
"""


def render_card(bundle: Bundle, results: Results) -> str:
    """The model card, in Markdown.

    Args:
        bundle: As it will be written, with its rounding.
        results: As `mitoscope.training.classify.evaluate.summarise` returns them.
    """
    config, count = fill_defaults(bundle.training["config"]), len(bundle.members)
    sources = (f"{item['name']} ({item['crops']:,} crops, {item['licence']})" for item in bundle.training["data"])
    one = f"One {bundle.architecture} network that gives the probability"
    several = f"{count} {bundle.architecture} networks, one for each fold, that together give the probability"
    mean = "probability of the network" if count == 1 else f"mean of the {count} probabilities"
    predictions = f"the out-of-fold predictions of {bundle.threshold.n_crops:,} crops"
    return CARD.format(
        name=bundle.name,
        networks=one if count == 1 else several,
        crop_px=bundle.input.crop_px,
        size_px=bundle.input.size_px,
        mpp=bundle.input.mpp,
        output=f"{'the calibrated' if bundle.calibration else 'the'} {mean}",
        calibration=_describe_calibration(bundle, results),
        threshold=bundle.threshold.value,
        data=", ".join(sources),
        start=describe_start(config),
        fitted=_describe_fit(config),
        rule=bundle.threshold.rule,
        fitted_on=predictions if bundle.threshold.fitted_on == "out-of-fold" else bundle.threshold.fitted_on,
        rounding=describe_rounding(bundle, "crops"),
        table=render_table(COLUMNS, list(overview_rows(results))),
        flattered=", although that network's epoch was chosen on these crops" if config["keep"] == "best" else "",
        training=_describe_training(bundle),
        licence=_describe_licence(bundle, config),
    )


def describe_start(config: Mapping[str, Any]) -> str:
    """The weights that training started from."""
    if config["init"]:
        return f"Started from {config['init']} (SHA-256 {config['init_sha256']})"
    if not config["pretrained"]:
        return "Trained from scratch, without pre-trained weights"
    if config["architecture"] in FOUNDATION:
        return f"Started from the weights of {FOUNDATION[config['architecture']].hub}"
    package = PACKAGES.get(name_backbone(config["architecture"]))
    return f"Started from ImageNet weights, of {f'the package {package}' if package else 'timm'}"


def find_origin(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Whose weights a whole network was trained from, where their terms go on to hold.

    Args:
        config: The settings, as recorded.

    Returns:
        Source and licence. None for a network from scratch, and for weights of timm's or a package's that anybody may
        pass on.
    """
    name = config["architecture"]
    if not (config["pretrained"] or config["init"]):
        return None
    licence = find_licence(name)
    return None if name not in FOUNDATION and may_be_passed_on(licence) else (find_source(name), licence)


def _describe_licence(bundle: Bundle, config: Mapping[str, Any]) -> str:
    """The licence of what the bundle holds."""
    if base := bundle.base:
        where = "which this bundle holds" if base.file else "which this bundle does not hold"
        return f"Licence of the adapters: MIT. Licence of their base {base.name}, {where}: {base.licence}."
    if origin := find_origin(config):
        return f"Licence of these weights: that of {origin[0]}, from which they were trained: {origin[1]}."
    return "Licence of these weights: MIT."


def _describe_fit(config: Mapping[str, Any]) -> str:
    """How the weights came from there."""
    if "probe" in config:
        values = ", ".join(f"{c:.3g}" for c in config["c"])
        return (
            "Nothing of the network was trained: its last layer is a logistic regression on its embeddings, with "
            f"C = {values}"
        )
    return f"The weights are a moving average, taken after the {config['keep']} epoch"


def _describe_calibration(bundle: Bundle, results: Results) -> str:
    """How the probabilities were calibrated, and their errors before and after."""
    fitted = bundle.calibration
    if fitted is None:
        return "none; the probabilities are the networks' own, not frequencies"
    parts = {"out of fold": results["out_of_fold"], **results["held_out"]}
    changes = [
        f"{errors['before']['ece']:.3f} before and {errors['after']['ece']:.3f} after on {name}"
        for name, errors in ((name, part["calibration"]) for name, part in parts.items())
    ]
    return (
        f"Platt's, scale {fitted.scale:.3f} and offset {fitted.offset:.3f}, for a share of {fitted.prevalence:.3f} "
        f"atypical figures.\n  Expected calibration error: {'; '.join(changes)}"
    )


def describe_rounding(bundle: Bundle, what: str) -> str:
    """How far each measured precision moves the probabilities of crops or points."""
    measured = [
        f"{precision} changes a probability by at most {rounding.largest_change:.4f} "
        f"and the class of {rounding.flipped:.1%} of {rounding.n_crops:,} {what}"
        for precision, rounding in bundle.rounding.items()
    ]
    return ";\n  ".join(measured) or "not measured"


def _describe_training(bundle: Bundle) -> str:
    """How long training took, where that is recorded, and by which commit."""
    seconds = bundle.training.get("fold_seconds")
    minutes = max(1, round(sum(seconds) / 60)) if seconds else 0
    took = f"Training took {minutes} minute{'s' * (minutes > 1)} of all processes together. " if seconds else ""
    return f"{took}Trained by commit {bundle.training['commit']}."
