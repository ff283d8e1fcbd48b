"""A finished study's networks in the runtime's own hands: the bundle that they would make, and the classifier."""

from pathlib import Path

import safetensors.torch
from torch import Tensor

from mitoscope.bundle.manifest import Bundle, InputSpec, Member, Threshold
from mitoscope.classify.classifier import Classifier
from mitoscope.networks.device import choose_device
from mitoscope.scoring.metrics.classification import figures
from mitoscope.scoring.metrics.thresholds import THRESHOLD_RULES
from mitoscope.training.study.study import Study

LICENCES = {"AMi-Br": "MIT (DeepMicroscopy/AMi-Br)"}


def describe_bundle(study: Study, rule: str, name: str, folder: Path) -> Bundle:
    """The manifest of a study's bundle, with the threshold fitted on the out-of-fold predictions; nothing is written.

    Args:
        study: A finished study.
        rule: One of `mitoscope.scoring.metrics.thresholds.THRESHOLD_RULES`.
        name: The bundle's name, after the architecture's.
        folder: Where the bundle is to lie.

    Raises:
        DataError: The rule cannot be fitted on these predictions.
    """
    predictions = study.out_of_fold()
    is_atypical = (predictions["label"] == "atypical").to_numpy()
    p_atypical = predictions["p_atypical"].to_numpy()
    threshold = THRESHOLD_RULES[rule](is_atypical, p_atypical)
    members = []
    for fold in study.members:
        own = (predictions["fold"] == fold).to_numpy()
        scores = figures(is_atypical[own], p_atypical[own], threshold)
        members.append(
            Member(
                f"fold{fold}.safetensors",
                "",
                fold=fold,
                metrics={key: scores[key] for key in ("balanced_accuracy", "roc_auc")},
            )
        )
    config = study.record["config"]
    trained = study.data.table.iloc[study.data.rows_of(predictions["image_id"].tolist())]
    architecture = config["architecture"].partition(".")[0]  # the tag names weights that are not loaded any more
    return Bundle(
        folder=folder,
        name=f"{architecture.replace('_', '-')}-{name}",
        architecture=architecture,
        input=InputSpec(**config["input"]),
        threshold=Threshold(threshold, rule, "nothing" if rule == "one_half" else "out-of-fold", len(predictions)),
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


def read_states(study: Study) -> list[dict[str, Tensor]]:
    """Each member's tensors, fp32, as `mitoscope.training.fit` left them."""
    return [safetensors.torch.load_file(study.folder / f"fold{k}" / "member.safetensors") for k in study.members]


def load_classifier(study: Study, bundle: Bundle) -> Classifier:
    """The study's members in fp32, on the GPU when there is one, without a bundle on disk."""
    return Classifier.of(bundle, iter(read_states(study)), choose_device("auto"), "fp32")
