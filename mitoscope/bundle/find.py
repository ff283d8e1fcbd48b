"""Find the bundle to use: the one that the user names, or a default."""

from collections.abc import Sequence
from pathlib import Path

from mitoscope.bundle.checks import fault
from mitoscope.bundle.read import MANIFEST
from mitoscope.errors import WeightsError
from mitoscope.files import describe_folder

MODEL_TARBALL = Path("/opt/ml/model")  # where the platform unpacks the model tarball
BAKED = Path("/opt/app/weights")  # where the image carries its own bundle
PACKAGE = Path(__file__).resolve().parent.parent
DEFAULTS = (PACKAGE / "weights" / "lite", PACKAGE.parent / "weights" / "lite")  # installed; in a checkout
DETECTOR_DEFAULTS = tuple(folder.with_name("detector-lite") for folder in DEFAULTS)


def find_bundle(weights: Path | None = None, defaults: Sequence[Path] | None = None) -> Path:
    """Find the bundle to use.

    Args:
        weights: The folder that the user named. None: the model tarball's folder if a manifest is in it or one folder
            below, else the bundle baked into the image, else the first of the defaults that there is.
        defaults: The task's default weights in this package and checkout; None: the classifier's, `DEFAULTS`.

    Returns:
        A folder that holds a manifest, not yet verified.

    Raises:
        WeightsError: There is no manifest, or the model tarball holds several manifests, or files without a manifest.
    """
    if weights is not None:
        if not (weights / MANIFEST).is_file():
            raise WeightsError(
                f"no bundle in {str(weights)!r}",
                got=describe_folder(weights, limit=4),
                expected=f"a folder with {MANIFEST} and the members that it lists",
                remedy="name one with --weights, such as weights/lite",
            )
        return weights
    attached = [
        path.parent
        for path in [MODEL_TARBALL / MANIFEST, *sorted(MODEL_TARBALL.glob(f"*/{MANIFEST}"))]
        if path.exists()
    ]
    if len(attached) > 1:
        raise fault("the model tarball is ambiguous", got=[str(path) for path in attached], expected="one manifest")
    if not attached and MODEL_TARBALL.is_dir() and any(MODEL_TARBALL.iterdir()):
        raise fault(
            "the model tarball holds no bundle",
            got=describe_folder(MODEL_TARBALL),
            expected=f"{MANIFEST} in it or one folder below",
        )
    defaults = DEFAULTS if defaults is None else defaults
    for folder in [*attached, BAKED, *defaults]:
        if (folder / MANIFEST).exists():
            return folder
    places = ", ".join(map(str, [MODEL_TARBALL, BAKED, *defaults]))
    raise fault("no weights bundle", got="no manifest.json", expected=f"one in {places}")
