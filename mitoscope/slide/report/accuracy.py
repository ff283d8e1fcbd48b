"""How often the networks err, in words, from what their manifests hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Metrics = Mapping[str, Any]


def describe_accuracy(task: str, members: Sequence[Mapping[str, Any]], out_of_fold: Metrics | None = None) -> str:
    """One sentence on a bundle's metrics out of fold.

    Args:
        task: ``"detector"`` or ``"classifier"``.
        members: Of the bundle, as in summary.json.
        out_of_fold: Of networks that were trained in the same way, each on slides that it was not trained on; for
            members that all slides trained.

    Returns:
        What the metrics of all members say; that it is not known if one member lacks them.
    """
    known: list[Metrics]
    intervals: dict[str, str] = {}
    if out_of_fold and all(member["fold"] is None for member in members):
        start = f"On slides that they were not trained on, networks that were trained like the {task}"
        known = [out_of_fold]
        intervals = {name: _percents(found) for name, found in out_of_fold.get("intervals", {}).items()}
    else:
        who = f"the {task}" if len(members) == 1 else f"each of the {task}'s {len(members)} networks alone"
        start = f"On slides that it was not trained on, {who}"
        known = [{} if member["fold"] is None else member["metrics"] for member in members]
    if (found := _range(known, "recall", _percent)) and (right := _range(known, "precision", _percent)):
        return (
            f"{start} found {found} %{intervals.get('recall', '')} of the mitotic figures, and {right} %"
            f"{intervals.get('precision', '')} of what was called a mitotic figure was one."
        )
    if f1 := _range(known, "f1_score", "{:.2f}".format):
        return (
            f"{start} had an F1 score of {f1}: 1 is no figure missed and no false alarm, 0 is none found. Its manifest "
            "does not say how many it missed and how many false alarms it gave."
        )
    if balanced := _range(known, "balanced_accuracy", _percent):
        return (
            f"{start} had a balanced accuracy of {balanced} %: the mean of the shares of the atypical and of the "
            "normal figures that it classified correctly; guessing gives 50 %."
        )
    return (
        f"How often the {task} errs is not known: its manifest holds no metrics of slides that it was not trained on."
    )


def _range(known: Sequence[Metrics], name: str, write: Callable[[float], str]) -> str | None:
    """A metric from the lowest to the highest; None if one lacks it."""
    values = [metrics[name] for metrics in known if metrics.get(name) is not None]
    if not values or len(values) < len(known):
        return None
    return " to ".join(dict.fromkeys(map(write, (min(values), max(values)))))


def _percents(interval: Sequence[float]) -> str:
    """An interval in brackets."""
    low, high = map(_percent, interval)
    return f" (95 % interval {low} to {high} %)"


def _percent(share: float) -> str:
    """A share in percent, without the sign."""
    return f"{100 * share:.0f}"
