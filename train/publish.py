"""A finished study → a weights bundle with its threshold, provenance and model card."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch

from model.bundle import N_MEMBERS, Bundle, Member, Threshold, write_bundle
from model.preprocess import InputSpec
from train.evaluate import evaluate
from train.figures import THRESHOLD_RULES, figures
from train.study import Study

LICENCES = {"AMi-Br": "MIT (DeepMicroscopy/AMi-Br)"}
CARD = """# {name}

Five {architecture} networks, one a cross-validation fold, that together give the probability that a mitotic figure
is *atypical*. Input: the central {crop_px} × {crop_px} px of a 128 × 128 px H&E crop at about 0.25 µm/px, resized to
{size_px} × {size_px} px. Output: the mean of five probabilities; atypical from {threshold:.4f} on.

**Not for clinical use.** For research on crops like those below; nothing here was validated on patients.

- Trained on: {data}. {start}.
- Threshold: rule `{rule}`, fitted on the out-of-fold predictions of {n_crops} crops.
- Licence of these weights: MIT. The data's stand above.

| crops | n (atypical) | networks | ROC AUC | balanced accuracy | sensitivity | specificity |
|---|---|---|---|---|---|---|
{rows}

Out of fold: each crop is judged by the one network that never saw its slide. Held out: never trained on and never
used to place the threshold; pixel-identical duplicates removed. Training took {minutes:.0f} process-minutes; commit {commit}.
"""


def publish(study: Study, out: Path, rule: str, name: str) -> dict[str, Any]:
    """Fit the threshold on the out-of-fold predictions and write the bundle and its card.

    Args:
        study: A finished study.
        out: The bundle's folder; an older bundle there is replaced.
        rule: One of `train.figures.THRESHOLD_RULES`.
        name: The bundle's name, after the architecture's.

    Returns:
        The figures, as `train.evaluate.evaluate` gives them.
    """
    predictions = study.out_of_fold()
    is_atypical = (predictions["label"] == "atypical").to_numpy()
    p_atypical = predictions["p_atypical"].to_numpy()
    threshold = THRESHOLD_RULES[rule](is_atypical, p_atypical)
    members = []
    for fold in range(N_MEMBERS):
        own = (predictions["fold"] == fold).to_numpy()
        scores = figures(is_atypical[own], p_atypical[own], threshold)
        members.append(Member(fold, f"fold{fold}.safetensors", "", scores["balanced_accuracy"], scores["roc_auc"]))
    config = study.record["config"]
    trained = study.data.table.iloc[study.data.rows_of(predictions["image_id"].tolist())]
    bundle = Bundle(
        folder=out,
        name=f"{config['architecture'].partition('.')[0].replace('_', '-')}-{name}",
        architecture=config["architecture"].partition(".")[0],  # the tag names weights that are not loaded any more
        input=InputSpec(**config["input"]),
        threshold=Threshold(threshold, rule, "out-of-fold", len(predictions)),
        members=tuple(members),
        training={
            "commit": ", ".join(study.record["commits"]),
            "config": config,
            "folds_sha256": study.folds.sha256,
            "data": [
                {"name": name, "crops": int(count), "licence": LICENCES.get(str(name), "see its publisher")}
                for name, count in trained["source"].value_counts().items()
            ],
        },
    )
    states = [safetensors.torch.load_file(study.folder / f"fold{k}" / "member.safetensors") for k in range(N_MEMBERS)]
    written = write_bundle(bundle, states)
    results = evaluate(study, out)
    (out / "README.md").write_text(_card(written, study, results), encoding="utf-8")
    return results


def _card(bundle: Bundle, study: Study, results: dict[str, Any]) -> str:
    """The model card."""
    config = bundle.training["config"]
    data = ", ".join(f"{item['name']} ({item['crops']:,} crops, {item['licence']})" for item in bundle.training["data"])
    return CARD.format(
        **asdict(bundle.input),
        name=bundle.name,
        architecture=bundle.architecture,
        threshold=bundle.threshold.value,
        rule=bundle.threshold.rule,
        n_crops=bundle.threshold.n_crops,
        data=data,
        start="Started from timm's ImageNet weights"
        if config["pretrained"]
        else "From scratch, no pre-trained weights",
        rows="\n".join(table_rows(results)),
        minutes=sum(study.record["fold_seconds"]) / 60,
        commit=", ".join(study.record["commits"]),
    )


def table_rows(results: dict[str, Any]) -> list[str]:
    """The figures as rows of a Markdown table."""
    named = [("out of fold", "one", results["out_of_fold"])]
    for name, held_out in results["held_out"].items():
        named.append((f"held out: {name}", "five", held_out["ensemble"]))
    rows = [
        f"| {name} | {f['n_crops']} ({f['n_atypical']}) | {networks} | {f['roc_auc']:.4f} "
        f"| {f['balanced_accuracy']:.4f} | {f['sensitivity']:.4f} | {f['specificity']:.4f} |"
        for name, networks, f in named
    ]
    for name, held_out in results["held_out"].items():
        one, f = held_out["single_networks"], held_out["ensemble"]
        rows.append(
            f"| held out: {name} | {f['n_crops']} ({f['n_atypical']}) | one, mean of five "
            f"| {one['mean_roc_auc']:.4f} | {one['mean_balanced_accuracy']:.4f} | | |"
        )
    return rows
