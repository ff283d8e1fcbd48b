"""The task: where in an image of tissue are mitotic figures?"""

from mitoscope import sockets
from mitoscope.bundle import find
from mitoscope.bundle.checks import RESTORE
from mitoscope.bundle.manifest import Bundle
from mitoscope.detect.tiles import LEAST_PX, STEP_PX
from mitoscope.errors import WeightsError

DEFAULTS = find.DETECTOR_DEFAULTS
POINT_NAMES = sockets.POINT_NAMES


def check_task(bundle: Bundle) -> None:
    """Refuse a bundle of another task.

    Raises:
        WeightsError: It is of another task, its tiles do not fit the network, or it has what a detector cannot use.
    """
    tile = bundle.input.size_px
    fits = tile >= LEAST_PX and tile % STEP_PX == 0
    if bundle.task != "detect" or not fits or bundle.base is not None or bundle.calibration is not None:
        raise WeightsError(
            f"the bundle {bundle.name!r} does not detect figures",
            got=f"task {bundle.task}, size_px {tile}, base {bundle.base}, calibration {bundle.calibration}",
            expected=f"task detect, size_px a multiple of {STEP_PX} from {LEAST_PX} on, full members, no calibration",
            remedy=RESTORE,
        )


def check_finds_mitoses(bundle: Bundle) -> None:
    """Refuse a detector of other cells where mitotic figures are counted.

    Raises:
        WeightsError: Its positive class is another one.
    """
    if bundle.classes[-1] != POINT_NAMES[1]:
        raise WeightsError(
            f"the bundle {bundle.name!r} does not find mitotic figures",
            got=f"a detector of the class {bundle.classes[-1]}",
            expected=POINT_NAMES[1],
            remedy="name another bundle; for other cells, run `mitoscope detect`",
        )
