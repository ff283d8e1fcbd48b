"""A finished study → a weights bundle with its threshold, provenance and model card."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from model.ensemble import Ensemble
from model.errors import DataError
from model.manifest import N_MEMBERS, Bundle, Rounding
from model.stain import describe_crops, measure_crops
from model.weights import write_bundle
from train.evaluate import Results, predict_held_out, summarise
from train.members import describe_bundle, read_states
from train.pretrained import PACKAGES
from train.study import Study
from train.tables import overview_rows

TOLERANCE = 1e-3  # of a probability, for weights that were rounded to fp16
ROUNDED_CROPS = 400  # on which bf16 is measured; a share flipped of 0.5 % is two of them
CARD = """# {name}

Five {architecture} networks, one a cross-validation fold, that together give the probability that a mitotic figure
is *atypical*. Input: the central {crop_px} × {crop_px} px of a 128 × 128 px H&E crop at about 0.25 µm/px, resized to
{size_px} × {size_px} px. Output: the mean of five probabilities; atypical from {threshold:.4f} on.

**Not for clinical use.** For research on crops like those below; nothing here was validated on patients.

- Trained on: {data}. {start}.
- Threshold: rule `{rule}`, fitted on {fitted_on}. Weights: the {kept} epoch's, averaged.
- The manifest also holds the stain and sharpness of these crops; inference names the pages that lie outside of them.
- Licence of these weights: MIT. The data's stand above.

| crops | n (atypical) | networks | ROC AUC | balanced accuracy | sensitivity | specificity |
|---|---|---|---|---|---|---|
{rows}

Out of fold: each crop is judged by the one network that never saw its slide{flattered}. Held out, where there is any:
never trained on and never used to place the threshold; pixel-identical duplicates removed.

Training took {minutes:.0f} process-minutes; commit {commit}.
"""


def publish(study: Study, out: Path, rule: str) -> list[str]:
    """Fit the threshold on the out-of-fold predictions and write the bundle and its card.

    Args:
        study: A finished study of five members.
        out: The bundle's folder; an older bundle there is replaced. Its name is the bundle's.
        rule: One of `scoring.thresholds.THRESHOLD_RULES`.

    Returns:
        The card's table; what was held out is judged by the bundle as it was written, by the very code that the
        container runs.

    Raises:
        DataError: The study has other than five members, or a member as written says something else of its validation
            fold than it did when it was fitted.
        WeightsError: The folder holds something else than a bundle.
    """
    if len(study.members) != N_MEMBERS:
        raise DataError(
            f"{study.folder} cannot be published",
            got=f"{len(study.members)} members",
            expected=str(N_MEMBERS),
            remedy="run it without --members",
        )
    crops, states = _out_of_fold_crops(study), read_states(study)
    described = replace(
        describe_bundle(study, rule, out.name, out), training_crops=describe_crops(measure_crops(crops))
    )
    with TemporaryDirectory() as scratch:  # an older bundle is replaced by one that was tried
        tried = write_bundle(replace(described, folder=Path(scratch) / out.name), states)
        _check_members(study, Ensemble.load(tried.folder, precision="fp32"))
        bf16 = measure_bf16(tried.folder, crops)
    bundle = write_bundle(replace(described, bf16=bf16), states)
    ensemble = Ensemble.load(out)
    results = summarise(study, ensemble, predict_held_out(study, ensemble))
    (out / "README.md").write_text(_card(bundle, study, results), encoding="utf-8")
    return _rows(results)


def _out_of_fold_crops(study: Study) -> np.ndarray:
    """uint8 (N, 128, 128, 3), in the order of the out-of-fold predictions."""
    crops: np.ndarray = study.data.crops[study.data.rows_of(study.out_of_fold()["image_id"].tolist())]
    return crops


def measure_bf16(folder: Path, crops: np.ndarray) -> Rounding:
    """What bf16 changes of a bundle's answers on a CPU, against fp32, on some of the crops, evenly spread.

    Args:
        folder: The bundle's.
        crops: uint8 (N, 128, 128, 3), N at least 1.
    """
    some = crops[:: -(-len(crops) // ROUNDED_CROPS)]
    ensembles = [Ensemble.load(folder, device="cpu", precision=precision) for precision in ("fp32", "bf16")]
    full, rounded = (ensemble.predict_proba(some) for ensemble in ensembles)
    threshold = ensembles[0].bundle.threshold.value
    return Rounding(
        n_crops=len(some),
        largest_change=float(np.abs(full - rounded).max()),
        flipped=float(((full >= threshold) != (rounded >= threshold)).mean()),
    )


def _check_members(study: Study, ensemble: Ensemble) -> None:
    """Ask each member as written, in fp32, about its validation fold again."""
    bundle, predictions = ensemble.bundle, study.out_of_fold()
    for fold in study.members:
        own = predictions[predictions["fold"] == fold]
        crops = study.data.crops[study.data.rows_of(own["image_id"].tolist())]
        (p_atypical,) = Ensemble(bundle, [ensemble.members[fold]], ensemble.device, "fp32").predict_members(crops)
        change = float(np.abs(p_atypical - own["p_atypical"].to_numpy()).max())
        if not change <= TOLERANCE:
            raise DataError(
                f"member {fold} changed when it was written",
                got=f"a probability that is {change:.4f} off its validation.csv",
                expected=f"at most {TOLERANCE}",
                remedy=f"delete {study.folder / f'fold{fold}'} and run the study again; please report this",
            )


def _rows(results: Results) -> list[str]:
    """The table's rows."""
    return [f"| {row}" for row in overview_rows(results)]


def _start(config: Mapping[str, Any]) -> str:
    """Which weights the training started from, as a sentence's beginning."""
    if config.get("init"):
        return f"Started from {config['init']} (SHA-256 {config['init_sha256']})"
    if not config["pretrained"]:
        return "From scratch, no pre-trained weights"
    package = PACKAGES.get(config["architecture"])
    return f"Started from ImageNet weights of {f'the package {package}' if package else 'timm'}"


def _card(bundle: Bundle, study: Study, results: Results) -> str:
    """The model card."""
    config = bundle.training["config"]
    data = ", ".join(f"{item['name']} ({item['crops']:,} crops, {item['licence']})" for item in bundle.training["data"])
    return CARD.format(
        **asdict(bundle.input),
        name=bundle.name,
        architecture=bundle.architecture,
        threshold=bundle.threshold.value,
        rule=bundle.threshold.rule,
        fitted_on=f"the out-of-fold predictions of {bundle.threshold.n_crops:,} crops"
        if bundle.threshold.fitted_on == "out-of-fold"
        else bundle.threshold.fitted_on,
        kept=config["keep"],
        flattered=", though that network's epoch was chosen on these crops" if config["keep"] == "best" else "",
        data=data,
        start=_start(config),
        rows="\n".join(_rows(results)),
        minutes=sum(study.record["fold_seconds"]) / 60,
        commit=", ".join(study.record["commits"]),
    )
