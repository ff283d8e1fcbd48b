"""What becomes of a finished study, by its task: metrics, or a bundle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mitoscope.errors import DataError
from mitoscope.training.classify import evaluate as classify
from mitoscope.training.classify.publish import publish as publish_classifier
from mitoscope.training.detect.results import evaluate as detect
from mitoscope.training.detect.results.members import MEMBER
from mitoscope.training.detect.results.publish import publish as publish_detector
from mitoscope.training.detect.settings import DetectSettings
from mitoscope.training.study.study import Study

DEFAULT_RULE = "max_balanced_accuracy"  # of a classifier's threshold


def evaluate_run(
    studies: Mapping[str, Study[Any]], out: Path, rule: str | None, *, misses: bool, tta: bool = False
) -> str:
    """Evaluate one run; see the task's own function of this name.

    Args:
        studies: By what each leaves out.
        out: The folder for the results.
        rule: Places a classifier's threshold; None: the default.
        misses: Explain a classifier's errors.
        tta: Compare a detector in eight orientations, too.

    Raises:
        DataError: An option is another task's.
    """
    if _is_detector(studies):
        _refuse(rule=rule, misses=misses)
        return detect.evaluate_run(studies, out, tta=tta)
    _refuse_all({"--tta": tta}, "a study to detect")
    return classify.evaluate_run(dict(studies), rule or DEFAULT_RULE, out, misses=misses)


def compare_studies(studies: Mapping[str, Study[Any]], out: Path, rule: str | None) -> str:
    """Evaluate studies side by side; see the task's own function of this name.

    Raises:
        DataError: The studies are of two tasks, or an option is another task's.
    """
    if len({study.data.task for study in studies.values()}) > 1:
        raise DataError(
            "studies of two tasks cannot be compared",
            got={name: study.data.task for name, study in studies.items()},
            expected="one task",
            remedy="evaluate them one by one",
        )
    if _is_detector(studies):
        _refuse(rule=rule)
        return detect.compare_studies(studies, out)
    return classify.compare_studies(dict(studies), rule or DEFAULT_RULE, out)


def publish(
    study: Study[Any],
    out: Path,
    rule: str | None = None,
    *,
    members: Sequence[int] = (),
    state: str | None = None,
    whole: bool = False,
    base: Path | None = None,
    embed_base: bool = False,
    merge: bool = False,
) -> str:
    """Write a study's bundle; see the task's own function of this name.

    Args:
        study: A finished study.
        out: The bundle's folder.
        rule: Places a classifier's threshold; None: the default.
        members: The folds of a detector's members; empty: all.
        state: Which of a detector's weights; None: `MEMBER`.
        whole: Publish a detector's one member that all folds trained.
        base: Where the base of a classifier's adapters is; this and the next two as in
            `mitoscope.training.classify.publish.publish`.
        embed_base: Store it in the bundle.
        merge: Add the adapters to it.

    Raises:
        DataError: An option is another task's.
    """
    if _is_detector({"": study}):
        _refuse(rule=rule)
        _refuse_all({"--base": base, "--embed-base": embed_base, "--merge-adapters": merge}, "a study of adapters")
        return publish_detector(study, out, members, state or MEMBER, whole=whole)
    _refuse_all({"--members": list(members), "--state": state, "--whole": whole}, "a study to detect")
    return publish_classifier(study, out, rule or DEFAULT_RULE, base=base, embed_base=embed_base, merge=merge)


def _is_detector(studies: Mapping[str, Study[Any]]) -> bool:
    """Whether the first of them is a detector's."""
    return bool(next(iter(studies.values())).data.task == DetectSettings.task)


def _refuse(*, rule: str | None = None, misses: bool = False) -> None:
    """Refuse a classifier's options for a detector."""
    _refuse_all({"--threshold-rule": rule, "--misses": misses}, "a study to classify")


def _refuse_all(options: Mapping[str, object], expected: str) -> None:
    """Refuse the first option that has a value: it is another task's."""
    for option, value in options.items():
        if value:
            raise DataError(f"{option} does not apply to this study", got=value, expected=expected, remedy="remove it")
