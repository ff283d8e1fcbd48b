"""A finished study, or a bundle that was published before → a weights bundle with provenance and model card."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mitoscope.bundle.manifest import BUNDLE_NAME, PRECISIONS, Bundle
from mitoscope.bundle.members import State, parse_member, write_bundle
from mitoscope.bundle.read import read_base, read_bundle, read_content
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.outliers import describe_crops
from mitoscope.classify.rounding import measure_roundings
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DataError, WeightsError
from mitoscope.images.stain import measure_crops
from mitoscope.markdown import render_table
from mitoscope.networks.foundation import FREE_LICENCES, may_be_passed_on
from mitoscope.networks.lora import merge_adapter
from mitoscope.progress import progress
from mitoscope.training.bases.weights import SAFETENSORS, is_published
from mitoscope.training.classify.card import find_origin, render_card
from mitoscope.training.classify.evaluate import predict_held_out, summarise
from mitoscope.training.classify.members import StudyBase, describe_bundle, find_base, read_states
from mitoscope.training.classify.out_of_fold import OutOfFold, predict_out_of_fold, read_out_of_fold
from mitoscope.training.classify.tables import COLUMNS, overview_rows
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds, split
from mitoscope.training.presets import fill_defaults
from mitoscope.training.study.study import Study

BASE_FILE = "base.safetensors"
TOLERANCE = 5e-3  # of a probability, for weights that were rounded to fp16


def publish(
    study: Study[CropData],
    out: Path,
    rule: str,
    *,
    base: Path | None = None,
    embed_base: bool = False,
    merge: bool = False,
) -> str:
    """Fit the threshold on the out-of-fold predictions and write the bundle and its card.

    Args:
        study: A finished study.
        out: The bundle's folder; an older bundle there is replaced. Its name is the bundle's.
        rule: One of `mitoscope.scoring.metrics.thresholds.THRESHOLD_RULES`.
        base: Where the base of a study's adapters is; None: where it was when the study was run.
        embed_base: Store the base in the bundle. Otherwise the manifest names it by its hash.
        merge: Add the adapters to the base: each member becomes a whole network.

    Returns:
        The card's table, in Markdown. Its metrics are those of the bundle as written, by the code that the container
        runs.

    Raises:
        DataError: A member as written predicts something else of its validation fold than it did when it was fitted;
            the study has no base to embed or to merge; its members were trained on another one; its classes are not
            normal and atypical; or the folder's name cannot be a bundle's.
        WeightsError: The folder holds something else than a bundle, or the base's licence forbids to pass it on.
    """
    check_classes(study.data, study.folder)
    check_name(out)
    shared = find_base(study, base)
    if (embed_base or merge) and (shared is None or embed_base == merge):
        raise DataError(
            "--embed-base and --merge-adapters are for a study of adapters",
            got="both" if shared else "a study of whole networks",
            expected="adapters on a base, and one of the two",
            remedy="remove the option",
        )
    predictions = read_out_of_fold(study)
    out = out.resolve()  # "." has no name
    described = describe_bundle(study, predictions, rule, out.name, out)
    if shared is None:
        _warn_of_terms(study, out)
        return write_checked(described, read_states(study), study.data, study.folds, predictions)
    check_base(shared, out, stored=embed_base or merge)
    states, own = read_states(study), shared.read() if embed_base or merge else None
    if merge and own is not None:
        whole: list[State] = [merge_adapter(own, state, "the member") for state in states]
        return write_checked(described, whole, study.data, study.folds, predictions)
    members = tuple(replace(member, kind="adapter") for member in described.members)
    named = replace(shared.base, file=BASE_FILE if embed_base else None)
    bundle = replace(described, members=members, base=named)
    return write_checked(bundle, states, study.data, study.folds, predictions, own, None if embed_base else shared.path)


def check_classes(data: CropData, what: Path | str) -> None:
    """Refuse to publish what inference cannot run: a classifier of mitotic figures and look-alikes.

    Raises:
        DataError: It has other classes than normal and atypical.
    """
    if data.classes != CLASS_NAMES:
        raise DataError(
            f"{what} cannot be published",
            got=f"the classes {', '.join(data.classes)}",
            expected=f"{', '.join(CLASS_NAMES)}: a bundle tells these apart",
            remedy="evaluate it only; mitoscope detect finds the mitotic figures of an image",
        )


def check_name(out: Path) -> None:
    """Refuse a folder whose name cannot be a bundle's.

    Raises:
        DataError: It has other characters.
    """
    if not BUNDLE_NAME.fullmatch(out.resolve().name):
        raise DataError(
            f"{out} cannot be a bundle's folder",
            got=repr(out.resolve().name),
            expected="a name of letters, digits, and any of _.-",
            remedy="name another folder",
        )


def _warn_of_terms(study: Study[CropData], out: Path) -> None:
    """Warn of whole networks that were trained from weights with terms of their own."""
    origin = find_origin(fill_defaults(study.record["config"]))
    if origin and not may_be_passed_on(origin[1]):
        print(f"warning   {out} was trained from {origin[0]}, whose licence {origin[1]} may forbid to pass changed "
              "weights on: read it before you give this bundle to anybody", flush=True)  # fmt: skip


def check_base(shared: StudyBase, out: Path, *, stored: bool) -> None:
    """Refuse to store a base that may not be passed on, or to name one that inference cannot read.

    Args:
        shared: The base.
        out: The bundle's folder, for the message.
        stored: Whether the bundle is to hold its weights.

    Raises:
        WeightsError: It is refused.
    """
    licence = shared.base.licence
    if stored and not may_be_passed_on(licence):
        raise WeightsError(
            f"{out} may not hold the weights of {shared.base.name}",
            got=f"the licence {licence}",
            expected=f"one of {', '.join(FREE_LICENCES)}",
            remedy="publish without --embed-base and --merge-adapters, and give the base with --base where the "
            "bundle is used",
        )
    if stored and not is_published(shared.name, shared.path):
        print(f"warning   {shared.path} is stored as {shared.base.name}, under its licence {licence}; if it is a "
              "file of your own, its own licence counts", flush=True)  # fmt: skip
    if not stored and shared.path.suffix != SAFETENSORS:
        raise WeightsError(
            f"the base of {out} cannot be read by inference",
            got=str(shared.path),
            expected=f"a {SAFETENSORS} file",
            remedy=f"write one with mitoscope train base {shared.name} --base FILE --out BASE.safetensors, and name "
            "that with --base",
        )


def republish(folder: Path, data: CropData, hold_out: list[str], out: Path, base: Path | None = None) -> str:
    """Write a bundle again: the same weights, threshold and provenance, with today's format, measurements and card.

    Args:
        folder: The bundle's.
        data: The crops that it was trained on, and those that were held out.
        hold_out: As `mitoscope train run` got it, see `mitoscope.training.folds.split`.
        out: The new bundle's folder; may be the same.
        base: The base network of a bundle of adapters that does not hold it: its file or folder.

    Returns:
        As `publish`.

    Raises:
        DataError: The data's folds are not those of the bundle.
        WeightsError: The bundle cannot be read, or ``out`` holds something else than a bundle.
    """
    bundle = read_bundle(folder)
    folds = split(data, hold_out, bundle.training.get("folds_seed", 0))
    if folds.sha256 != bundle.training.get("folds_sha256"):
        raise DataError(
            f"{folder} was trained on other folds",
            got=f"folds with sha256 {folds.sha256}",
            expected=f"{bundle.training.get('folds_sha256')}, as in its manifest",
            remedy="prepare the same data sets, and use the same --hold-out as when it was trained",
        )
    states = [parse_member(read_content(bundle, member), member.file) for member in bundle.members]
    stored = read_base(bundle) if bundle.base and bundle.base.file else None
    own = None if stored is None else parse_member(stored, "the base")
    predictions = predict_out_of_fold(Classifier.load(folder, precision="fp32", base=base), data, folds)
    return write_checked(replace(bundle, folder=out.resolve()), states, data, folds, predictions, own, base)


def write_checked(
    described: Bundle,
    states: Sequence[State],
    data: CropData,
    folds: Folds,
    predictions: OutOfFold,
    own: State | None = None,
    base: Path | None = None,
) -> str:
    """Write a trial, check and measure it, then write the bundle with what was measured.

    Args:
        described: The manifest, without rounding and training crops.
        states: The members' tensors.
        data: The crops.
        folds: The split.
        predictions: Out of fold, as recorded when the members were fitted.
        own: The base that the bundle holds.
        base: Where the base is that the bundle does not hold.

    Returns:
        The card's table, in Markdown.

    Raises:
        DataError: A member as written predicts something else of its validation fold.
        WeightsError: The folder holds something else than a bundle.
    """
    trained = data.rows_of(folds.train_ids(*np.unique(predictions.fold)))
    steps = 3 + len(PRECISIONS)  # the crops out of fold, some in each precision, and what was held out
    # An older bundle is replaced only by one that passed its trial.
    with TemporaryDirectory() as scratch, progress(steps, unit="steps", what="publishing") as bar:
        trial = write_bundle(replace(described, folder=Path(scratch) / described.folder.name), states, own).folder
        classifier = Classifier.load(trial, precision="fp32", base=base)
        written = predict_out_of_fold(classifier, data, folds)
        _check_members(described, written, predictions)
        bar.update()
        rounding = measure_roundings(trial, data.crops[predictions.rows], PRECISIONS, base, bar.update)
        results = summarise(data, folds, classifier, written, predict_held_out(data, folds, classifier))
        bar.update()
    training_crops = describe_crops(measure_crops(data.crops[trained]))
    bundle = replace(described, rounding=rounding, training_crops=training_crops)
    write_bundle(bundle, states, own, files={"README.md": render_card(bundle, results)})
    return render_table(COLUMNS, list(overview_rows(results)))


def _check_members(bundle: Bundle, written: OutOfFold, fitted: OutOfFold) -> None:
    """Compare the out-of-fold predictions of the members as written with those that were recorded."""
    for member in bundle.members:
        before, after = (
            part.p_atypical[own][np.argsort(part.rows[own])]
            for part in (fitted, written)
            for own in [part.fold == member.fold]
        )
        change = float(np.abs(after - before).max())
        if not change <= TOLERANCE:
            raise DataError(
                f"{member.file} changed when it was written",
                got=f"a probability that differs by {change:.4f} from its out-of-fold prediction",
                expected=f"at most {TOLERANCE}",
                remedy=_remedy(bundle, f"fold{member.fold}"),
            )


def _remedy(bundle: Bundle, fold: str) -> str:
    """What to do about a member that changed."""
    if bundle.base and bundle.base.file:
        return "publish without --embed-base: a base is stored in fp16, which changes these members too much"
    if "probe" in bundle.training.get("config", {}):
        return "run mitoscope train embed into another folder with --precision fp32, and probe again"
    return f"delete {fold} of the study and run the study again; please report this"
