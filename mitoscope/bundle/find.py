"""The weights bundle: a folder with manifest.json and five fold<k>.safetensors. Here it is found, verified and read.

Whatever is bound to the weights (architecture, input, threshold, hashes) stands once, in the manifest. A bundle
that is there but not whole is an error, never a reason to look for another one.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from model.contract import describe_folder
from model.errors import WeightsError
from model.files import read_file, read_json
from model.manifest import (
    N_MEMBERS,
    RESTORE,
    Bundle,
    FeatureRange,
    InputSpec,
    Member,
    Rounding,
    Threshold,
    TrainingCrops,
)

FORMAT = 1
MANIFEST = "manifest.json"
CHECKSUM = "checksum"  # of the manifest itself; older ones have none
MANIFEST_BYTES = 1 << 20
MEMBER_BYTES = 1 << 30  # eight times an EfficientViT-L2
LONGEST_NAME = 200  # of the bundle, its architecture, its threshold's rule: the log shows them
MODEL_TARBALL = Path("/opt/ml/model")  # where the platform unpacks the model tarball
BAKED = Path("/opt/app/weights")  # where the image carries its own bundle
CHECKOUT = Path(__file__).resolve().parent.parent / "weights" / "lite"


def find_bundle(weights: Path | None = None) -> Path:
    """Say which folder's bundle to use.

    Args:
        weights: The folder that the user asked for. None: the model tarball's folder if a manifest is in it or
            one folder below, else the bundle baked into the image, else the checkout's own.

    Returns:
        A folder that holds a manifest, not yet verified.

    Raises:
        WeightsError: No manifest is found, or the model tarball holds several, or other things only.
    """
    if weights is not None:
        if not (weights / MANIFEST).is_file():
            raise WeightsError(
                f"no bundle in {str(weights)!r}",
                got=describe_folder(weights, limit=4),
                expected=f"a folder with {MANIFEST} and the five members that it lists",
                remedy="name one with --weights, such as weights/lite",
            )
        return weights
    attached = [
        path.parent
        for path in [MODEL_TARBALL / MANIFEST, *sorted(MODEL_TARBALL.glob(f"*/{MANIFEST}"))]
        if path.exists()
    ]
    if len(attached) > 1:
        raise _fault("the model tarball is ambiguous", got=[str(path) for path in attached], expected="one manifest")
    if not attached and MODEL_TARBALL.is_dir() and any(MODEL_TARBALL.iterdir()):
        raise _fault(
            "the model tarball holds no bundle",
            got=describe_folder(MODEL_TARBALL),
            expected=f"{MANIFEST} in it or one folder below",
        )
    for folder in [*attached, BAKED, CHECKOUT]:
        if (folder / MANIFEST).exists():
            return folder
    raise _fault("no weights bundle", got="no manifest.json", expected=f"one in {MODEL_TARBALL}, {BAKED} or {CHECKOUT}")


def read_bundle(folder: Path) -> Bundle:
    """Read and check a manifest. The members' bytes are checked when they are read, by `read_content`.

    Raises:
        WeightsError: The manifest is missing, malformed, of another format, or does not name exactly the five
            members that lie beside it.
    """
    try:
        manifest = read_json(folder / MANIFEST, MANIFEST_BYTES)
    except (OSError, ValueError) as error:
        raise _fault(f"{folder / MANIFEST} cannot be read", got=error, expected="UTF-8 JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise _fault(f"{folder / MANIFEST} has an unknown format", got=got, expected=f"format {FORMAT}")
    if CHECKSUM in manifest and manifest[CHECKSUM] != (found := hash_manifest(manifest)):
        raise WeightsError(
            f"{folder / MANIFEST} was altered",
            got=f"{CHECKSUM} {found}",
            expected=manifest[CHECKSUM],
            remedy=f"restore it, or delete its {CHECKSUM} if you changed the rest on purpose",
        )
    try:
        shape = manifest["input"]
        bundle = Bundle(
            folder=folder,
            name=str(manifest["name"]),
            architecture=str(manifest["architecture"]),
            input=InputSpec(**{**shape, "mean": tuple(shape["mean"]), "std": tuple(shape["std"])}),
            threshold=Threshold(**manifest["threshold"]),
            members=tuple(Member(**member) for member in manifest["members"]),
            positive_class=manifest["positive_class"],
            training=manifest["training"],
            training_crops=_training_crops(manifest.get("training_crops")),
            bf16=Rounding(**manifest["bf16"]) if manifest.get("bf16") else None,
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:  # the last for an integer of 400 digits
        raise _fault(f"{folder / MANIFEST} is malformed", got=error, expected="the fields of format 1") from error
    _check_members(bundle)
    return bundle


def hash_manifest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest says, however it is laid out, but for its own checksum."""
    said = {key: value for key, value in manifest.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _training_crops(described: Mapping[str, Any] | None) -> TrainingCrops | None:
    """The manifest's training crops, if it describes them."""
    if described is None:
        return None
    features = {name: FeatureRange(**values) for name, values in described["features"].items()}
    return TrainingCrops(described["n_crops"], features)


def _check_members(bundle: Bundle) -> None:
    """Refuse any set of members other than fold0 … fold4, listed and lying there, or a name that no log can show."""
    shown = (bundle.name, bundle.architecture, bundle.threshold.rule)
    if not all(isinstance(text, str) and text.isprintable() and len(text) <= LONGEST_NAME for text in shown):
        raise _fault(f"{bundle.folder / MANIFEST} has an unusable name", got=shown, expected="short printable words")
    if not re.fullmatch(r"[\w.-]+", bundle.name):  # export.sh names a file by it
        raise _fault("the bundle's name is unusable", got=repr(bundle.name), expected="letters, digits, and any of _.-")
    if bundle.positive_class != "atypical":
        raise _fault("the bundle predicts another class", got=bundle.positive_class, expected="'atypical'")
    expected = [f"fold{k}.safetensors" for k in range(N_MEMBERS)]
    listed = [member.file for member in bundle.members]
    if listed != expected or [member.fold for member in bundle.members] != list(range(N_MEMBERS)):
        raise _fault(f"{bundle.folder / MANIFEST} lists other members", got=listed, expected=str(expected))
    found = sorted(path.name for path in bundle.folder.glob("*.safetensors"))
    if found != expected:
        raise _fault(f"{bundle.folder} holds other members", got=found, expected=str(expected))


def read_content(bundle: Bundle, member: Member) -> bytes:
    """Read one member's file and check its hash, so that what is used is what was checked.

    Raises:
        WeightsError: The file cannot be read, or its SHA-256 is not the manifest's.
    """
    path = bundle.folder / member.file
    try:
        content = read_file(path, MEMBER_BYTES)
    except OSError as error:
        raise _fault(f"{path} cannot be read", got=error, expected="a readable file") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != member.sha256:
        raise _fault(f"{path} was altered or swapped", got=f"sha256 {digest}", expected=f"sha256 {member.sha256}")
    return content


def read_ahead(bundle: Bundle) -> Iterator[bytes]:
    """Begin to read all members in a thread, and give what `read_content` gives, in the members' order.

    What has been read is held until it is asked for, and not after that.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="weights")
    reading: deque[Future[bytes]] = deque(pool.submit(read_content, bundle, member) for member in bundle.members)
    pool.shutdown(wait=False)
    return (reading.popleft().result() for _ in bundle.members)


def _fault(what: str, *, got: object, expected: str) -> WeightsError:
    """A fault of the bundle, all of which have the same remedy."""
    return WeightsError(what, got=got, expected=expected, remedy=RESTORE)
