"""A finished study → a weights bundle with its threshold, provenance and model card."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from model.bundle import N_MEMBERS, Bundle, write_bundle
from model.ensemble import Ensemble, load_member
from model.errors import DataError
from model.stain import TrainingCrops, describe_crops, measure_crops
from train.evaluate import Results, predict_held_out, summarise
from train.members import describe_bundle, read_states
from train.study import Study
from train.tables import overview_rows

TOLERANCE = 1e-3  # of a probability, for weights that were rounded to fp16
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
    described = replace(describe_bundle(study, rule, out.name, out), training_crops=_training_crops(study))
    bundle = write_bundle(described, read_states(study))
    ensemble = Ensemble.load(out)
    _check_members(study, ensemble)
    results = summarise(study, ensemble, predict_held_out(study, ensemble))
    (out / "README.md").write_text(_card(bundle, study, results), encoding="utf-8")
    return _rows(results)


def _training_crops(study: Study) -> TrainingCrops:
    """Stain and sharpness of the crops that the study was trained on."""
    rows = study.data.rows_of(study.out_of_fold()["image_id"].tolist())
    return describe_crops(measure_crops(study.data.crops[rows]))


def _check_members(study: Study, ensemble: Ensemble) -> None:
    """Ask each member as written about its validation fold again."""
    bundle, predictions = ensemble.bundle, study.out_of_fold()
    for fold in study.members:
        own = predictions[predictions["fold"] == fold]
        crops = study.data.crops[study.data.rows_of(own["image_id"].tolist())]
        member = load_member(bundle, bundle.members[fold]).to(ensemble.device)
        (p_atypical,) = Ensemble(bundle, [member], ensemble.device, "fp32").predict_members(crops)
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
        start="Started from timm's ImageNet weights"
        if config["pretrained"]
        else "From scratch, no pre-trained weights",
        rows="\n".join(_rows(results)),
        minutes=sum(study.record["fold_seconds"]) / 60,
        commit=", ".join(study.record["commits"]),
    )
