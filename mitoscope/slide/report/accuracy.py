"""How often the networks err, in words, from what their manifests hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Members = Sequence[Mapping[str, Any]]


def describe_accuracy(task: str, members: Members) -> str:
    """One sentence on a bundle's metrics out of fold.

    Args:
        task: ``"detector"`` or ``"classifier"``.
        members: Of the bundle, as in summary.json.

    Returns:
        What the metrics of all members say; that it is not known if one member lacks them.
    """
    who = f"the {task}" if len(members) == 1 else f"each of the {task}'s {len(members)} networks alone"
    start = f"On slides that it was not trained on, {who}"
    if (found := _range(members, "recall", _percent)) and (right := _range(members, "precision", _percent)):
        return (
            f"{start} found {found} % of the mitotic figures, and {right} % of what it called a mitotic figure was one."
        )
    if f1 := _range(members, "f1_score", "{:.2f}".format):
        return (
            f"{start} had an F1 score of {f1}: 1 is no figure missed and no false alarm, 0 is none found. Its manifest "
            "does not say how many it missed and how many false alarms it gave."
        )
    if balanced := _range(members, "balanced_accuracy", _percent):
        return (
            f"{start} had a balanced accuracy of {balanced} %: the mean of the shares of the atypical and of the "
            "normal figures that it classified correctly; guessing gives 50 %."
        )
    return (
        f"How often the {task} errs is not known: its manifest holds no metrics of slides that it was not trained on."
    )


def _range(members: Members, name: str, write: Callable[[float], str]) -> str | None:
    """A metric from the lowest to the highest member; None if it is not known of each, out of fold."""
    values = [member["metrics"].get(name) for member in members if member["fold"] is not None]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(members):
        return None
    return " to ".join(dict.fromkeys(map(write, (min(known), max(known)))))


def _percent(share: float) -> str:
    """A share in percent, without the sign."""
    return f"{100 * share:.0f}"
