"""The weights bundle: a folder with manifest.json and five fold<k>.safetensors, read and written here alone.

Whatever is bound to the weights (architecture, input, threshold, hashes) stands once, in the manifest. A bundle
that is there but not whole is an error, never a reason to look for another one.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from model.contract import describe_folder
from model.errors import WeightsError
from model.preprocess import InputSpec
from model.stain import FeatureRange, TrainingCrops

FORMAT = 1
N_MEMBERS = 5
MANIFEST = "manifest.json"
MODEL_TARBALL = Path("/opt/ml/model")  # where the platform unpacks the model tarball
BAKED = Path("/opt/app/weights")  # where the image carries its own bundle
CHECKOUT = Path(__file__).resolve().parent.parent / "weights" / "lite"
RESTORE = "restore the bundle from where it was published, or name another with --weights"


@dataclass(frozen=True)
class Threshold:
    """The fixed decision threshold: a crop is atypical when its mean probability is at least ``value``."""

    value: float
    rule: str
    fitted_on: str
    n_crops: int

    def __post_init__(self) -> None:
        if not (isinstance(self.value, float) and 0 < self.value < 1):
            raise WeightsError(
                "the decision threshold is unusable", got=self.value, expected="a float in (0, 1)", remedy=RESTORE
            )


@dataclass(frozen=True)
class Member:
    """One cross-validation fold's network and its own out-of-fold figures."""

    fold: int
    file: str
    sha256: str
    balanced_accuracy: float
    roc_auc: float


@dataclass(frozen=True)
class Bundle:
    """A verified manifest and the folder it was read from. The fields are the manifest's.

    ``training_crops`` is None where a manifest says nothing of them: older bundles do not, and nothing but the hint at
    crops that are unlike them needs it.
    """

    folder: Path
    name: str
    architecture: str
    input: InputSpec
    threshold: Threshold
    members: tuple[Member, ...]
    positive_class: str = "atypical"
    training: Mapping[str, Any] = field(default_factory=dict)
    training_crops: TrainingCrops | None = None


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
    """Read and check a manifest. The members' bytes are checked when they are read, by `read_member`.

    Raises:
        WeightsError: The manifest is missing, malformed, of another format, or does not name exactly the five
            members that lie beside it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _fault(f"{folder / MANIFEST} cannot be read", got=error, expected="UTF-8 JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise _fault(f"{folder / MANIFEST} has an unknown format", got=got, expected=f"format {FORMAT}")
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
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _fault(f"{folder / MANIFEST} is malformed", got=error, expected="the fields of format 1") from error
    _check_members(bundle)
    return bundle


def _training_crops(described: Mapping[str, Any] | None) -> TrainingCrops | None:
    """The manifest's training crops, if it describes them."""
    if described is None:
        return None
    features = {name: FeatureRange(**values) for name, values in described["features"].items()}
    return TrainingCrops(described["n_crops"], features)


def _check_members(bundle: Bundle) -> None:
    """Refuse any set of members other than fold0 … fold4, listed and lying there."""
    if bundle.positive_class != "atypical":
        raise _fault("the bundle predicts another class", got=bundle.positive_class, expected="'atypical'")
    expected = [f"fold{k}.safetensors" for k in range(N_MEMBERS)]
    listed = [member.file for member in bundle.members]
    if listed != expected or [member.fold for member in bundle.members] != list(range(N_MEMBERS)):
        raise _fault(f"{bundle.folder / MANIFEST} lists other members", got=listed, expected=str(expected))
    found = sorted(path.name for path in bundle.folder.glob("*.safetensors"))
    if found != expected:
        raise _fault(f"{bundle.folder} holds other members", got=found, expected=str(expected))


def read_member(bundle: Bundle, member: Member) -> dict[str, Tensor]:
    """Read one member's tensors, from the very bytes whose hash was checked.

    Returns:
        Tensor name → tensor, in the precision of the file.

    Raises:
        WeightsError: The file cannot be read, its SHA-256 is not the manifest's, or it is no safetensors file.
    """
    path = bundle.folder / member.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _fault(f"{path} cannot be read", got=error, expected="a readable file") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != member.sha256:
        raise _fault(f"{path} was altered or swapped", got=f"sha256 {digest}", expected=f"sha256 {member.sha256}")
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the parser's error type is not public
        raise _fault(f"{path} is no safetensors file", got=error, expected="a safetensors file") from error


def write_bundle(bundle: Bundle, state_dicts: Sequence[Mapping[str, Tensor]]) -> Bundle:
    """Write a bundle whole or not at all, replacing an older one in the same folder.

    Matrices and kernels are stored in fp16; vectors (biases, norms, running statistics), which weigh little and
    lose most, stay in fp32.

    Args:
        bundle: What to write and where; the members' ``sha256`` are computed here.
        state_dicts: One state dict a member, in the members' order.

    Returns:
        The bundle as `read_bundle` reads it back.

    Raises:
        WeightsError: The folder holds something else than a bundle, or a weight does not fit in fp16.
    """
    folder = bundle.folder
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise _fault(f"{folder} is no bundle to be replaced", got="other files", expected="a bundle, or nothing there")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        members = []
        for member, state in zip(bundle.members, state_dicts, strict=True):
            content = safetensors.torch.save({name: _stored(tensor) for name, tensor in state.items()})
            (scratch / member.file).write_bytes(content)
            members.append({**asdict(member), "sha256": hashlib.sha256(content).hexdigest()})
        fields = {key: value for key, value in asdict(bundle).items() if key != "folder"}
        manifest = {"format": FORMAT, **fields, "members": members}
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        read_bundle(scratch)
        _take_place(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return read_bundle(folder)


def _take_place(new: Path, folder: Path) -> None:
    """Put a folder where an older bundle may lie, which is deleted once the new one is there."""
    old = new.with_name(f"{new.name}.old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _stored(tensor: Tensor) -> Tensor:
    """The tensor as the file holds it: contiguous, on the CPU, matrices in fp16."""
    half = tensor.is_floating_point() and tensor.ndim > 1
    stored = tensor.detach().to("cpu", torch.float16 if half else tensor.dtype).contiguous()
    if not torch.isfinite(stored).all():
        raise _fault("a weight cannot be stored", got="infinity or NaN in fp16", expected="weights below 65,504")
    return stored


def _fault(what: str, *, got: object, expected: str) -> WeightsError:
    """A fault of the bundle, all of which have the same remedy."""
    return WeightsError(what, got=got, expected=expected, remedy=RESTORE)
