"""The task: is a crop's figure a normal or an atypical mitosis?"""

from mitoscope.bundle.checks import RESTORE
from mitoscope.bundle.manifest import Bundle
from mitoscope.errors import WeightsError
from mitoscope.images import CROP_PX

CLASS_NAMES = ("normal", "atypical")  # index 1 is the positive class
LABEL_NAMES = {"normal": "normal", "atypical": "atypical", "NMF": "normal", "AMF": "atypical"}  # as tables spell them


def check_task(bundle: Bundle) -> None:
    """Refuse a bundle of another task.

    Raises:
        WeightsError: Its task, its classes or its crops' size differ.
    """
    got = (bundle.task, bundle.classes)
    if got != ("classify", CLASS_NAMES) or bundle.input.crop_px > CROP_PX:
        raise WeightsError(
            f"the bundle {bundle.name!r} does not classify crops of {CROP_PX} px",
            got=f"task {bundle.task}, classes {', '.join(bundle.classes)}, crop_px {bundle.input.crop_px}",
            expected=f"task classify, classes {', '.join(CLASS_NAMES)}, crop_px of {CROP_PX} or less",
            remedy=RESTORE,
        )
