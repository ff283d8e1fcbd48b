"""A finished study's networks in the runtime's own hands: the bundle that they would make, and the ensemble."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from model.ensemble import DTYPES, Ensemble, choose_device
from model.manifest import Bundle, InputSpec, Member, Threshold
from model.network import build_network
from scoring.metrics import figures
from scoring.thresholds import THRESHOLD_RULES
from train.study import Study

LICENCES = {"AMi-Br": "MIT (DeepMicroscopy/AMi-Br)"}


def describe_bundle(study: Study, rule: str, name: str, folder: Path) -> Bundle:
    """The manifest of a study's bundle, with the threshold fitted on the out-of-fold predictions; nothing is written.

    Args:
        study: A finished study.
        rule: One of `scoring.thresholds.THRESHOLD_RULES`.
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
        members.append(Member(fold, f"fold{fold}.safetensors", "", scores["balanced_accuracy"], scores["roc_auc"]))
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
    """Each member's tensors, fp32, as `train.fit` left them."""
    return [safetensors.torch.load_file(study.folder / f"fold{k}" / "member.safetensors") for k in study.members]


def load_ensemble(study: Study, bundle: Bundle) -> Ensemble:
    """The study's members as the runtime's ensemble, in fp32 on the GPU when there is one, without a bundle on disk."""
    device, networks = choose_device("auto"), []
    for state in read_states(study):
        network = build_network(bundle.architecture, bundle.input.size_px)
        network.load_state_dict(state)
        networks.append(network.eval().to(device, DTYPES["fp32"], memory_format=torch.channels_last))  # type: ignore[call-overload]  # torch's stubs lack memory_format
    return Ensemble(bundle, networks, device, "fp32")
