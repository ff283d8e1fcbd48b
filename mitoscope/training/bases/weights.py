"""The weights of a foundation model, or of any timm network: found, read, and known by hash, licence and input."""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import safetensors.torch
from torch import Tensor

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Base
from mitoscope.errors import DataError, WeightsError
from mitoscope.files import describe_folder, hash_file, write_bytes
from mitoscope.networks.foundation import FOUNDATION, UNKNOWN_LICENCE
from mitoscope.training.bases.pretrained import (
    PACKAGED_MEAN,
    PACKAGED_STD,
    PACKAGES,
    check_backbone,
    find_packaged,
    packaged_weights,
    read_weights,
)

SAFETENSORS = ".safetensors"
PICKLED = (".pth", ".bin")  # read by torch.load(…, weights_only=True)
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def find_weights(name: str, base: Path | None = None) -> Path:
    """Find the file with a network's weights.

    Args:
        name: A foundation model, see `mitoscope.networks.foundation.FOUNDATION`, or a timm name.
        base: A file, or a folder that holds one. In a folder with several, the one called ``name`` is taken.
            None: the registry package of `PACKAGES`, else timm's model hub or its cache.

    Returns:
        A .safetensors, .pth or .bin file.

    Raises:
        WeightsError: There is no such file, or the hub refuses or cannot be reached.
        DataError: The package is not installed.
    """
    if base is None:
        return find_packaged(name) if name in PACKAGES else _download(name)
    if not base.is_dir():
        if not (base.is_file() and base.suffix in (SAFETENSORS, *PICKLED)):
            raise _no_file(name, base, "no such file" if not base.exists() else f"a {base.suffix or 'nameless'} file")
        return base
    found = sorted(path for path in base.iterdir() if path.suffix in (SAFETENSORS, *PICKLED))
    found = [path for path in found if path.stem == name] or found
    found = [path for path in found if path.suffix == SAFETENSORS] or found
    if len(found) != 1:
        raise _no_file(name, base, describe_folder(base))
    return found[0]


def is_published(name: str, path: Path) -> bool:
    """Whether a file is that of a package or of the hub's cache, not one that a user named."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return _is_packaged(name, path) or path.resolve().is_relative_to(Path(HF_HUB_CACHE).resolve())


def read_base_weights(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `find_weights` found, by timm's names."""
    return (packaged_weights(name) or {}) if _is_packaged(name, path) else read_weights(path)


def _is_packaged(name: str, path: Path) -> bool:
    """Whether a file is that of a registry package; a user's own file needs no package."""
    if name not in PACKAGES:
        return False
    try:
        return path == find_packaged(name)
    except DataError:  # it is not installed
        return False


def describe_base(name: str, path: Path) -> Base:
    """What a manifest says of a base that it does not hold: hash, licence and source.

    Args:
        name: As for `find_weights`.
        path: As `find_weights` returns it. The hash of a .pth or .bin file is that of what `write_base` makes of it.
    """
    status = path.stat()
    return Base(_hash(name, path, status.st_mtime_ns, status.st_size), find_licence(name), name=find_source(name))


def write_base(name: str, path: Path, out: Path) -> Base:
    """Write a base as a .safetensors file, the form that inference reads.

    A .safetensors file is copied with its metadata. Of a .pth or .bin file equal tensors give equal bytes.

    Args:
        name: As for `find_weights`.
        path: As `find_weights` returns it.
        out: The new file; the values stay as they are.

    Raises:
        DataError: The file is of another network, or cannot be read.
        WeightsError: The name is unknown.
    """
    check_backbone(name, own_input(name).size_px, read_base_weights(name, path), str(path))
    write_bytes(out, path.read_bytes() if path.suffix == SAFETENSORS else _to_safetensors(name, path))
    return describe_base(name, out)


@lru_cache
def _hash(name: str, path: Path, _changed_ns: int, _bytes: int) -> str:
    """The hash of a base; the last two arguments tell a changed file from the one that was hashed."""
    if path.suffix == SAFETENSORS:
        return hash_file(path)
    return sha256(_to_safetensors(name, path)).hexdigest()


def _to_safetensors(name: str, path: Path) -> bytes:
    """The tensors of a file in the other format."""
    return safetensors.torch.save({key: value.contiguous() for key, value in read_base_weights(name, path).items()})


def _hub(name: str) -> str:
    """The repository on the hub; empty if timm knows none."""
    import timm

    if name in FOUNDATION:
        return FOUNDATION[name].hub
    known = timm.models.get_pretrained_cfg(name)
    return (known.hf_hub_id or "") if known else ""


def find_source(name: str) -> str:
    """Where a network's published weights come from: a package, a repository on the hub, or else the name itself."""
    return PACKAGES.get(name) or _hub(name) or name


def find_licence(name: str) -> str:
    """The licence of a network's published weights; a local file is taken to be what its name says."""
    import timm

    if name in FOUNDATION:
        return FOUNDATION[name].licence
    if name in PACKAGES:
        return "apache-2.0"
    known = timm.models.get_pretrained_cfg(name)
    return (known.license if known else None) or UNKNOWN_LICENCE


def own_input(name: str) -> InputSpec:
    """How a network's publisher feeds it, for crops of 128 px.

    Args:
        name: As for `find_weights`. An unknown one has ImageNet's mean and standard deviation.
    """
    import timm

    if name in FOUNDATION:
        return FOUNDATION[name].input
    known = timm.models.get_pretrained_cfg(name)
    if known is None:
        return InputSpec(size_px=224)
    mean, std = (PACKAGED_MEAN, PACKAGED_STD) if name in PACKAGES else (known.mean, known.std)
    return InputSpec(size_px=known.input_size[-1], mean=tuple(mean), std=tuple(std))


def _download(name: str) -> Path:
    """The file in the hub's cache; downloaded if it is not there."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    hub = _hub(name)
    if not hub:
        raise _no_file(name, None, "a name that is not in docs/foundation.md, and without weights on timm's hub")
    problem: Exception | None = None
    for file in HUB_FILES:
        try:
            return Path(hf_hub_download(hub, file))
        except EntryNotFoundError as error:  # this file is not there, or not in the cache of an offline machine
            problem = problem or error
        except Exception as error:  # the hub's client raises whatever its transport raises
            problem = error
            break
    raise WeightsError(
        f"the weights of {name} cannot be downloaded",
        got=f"{type(problem).__name__}: {problem}",
        expected=f"access to {hub}",
        remedy=f"check the connection; if the network is gated, accept its licence at https://huggingface.co/{hub} and "
        "run `hf auth login` once; or name a file on disk with --base",
    ) from problem


def _no_file(name: str, base: Path | None, got: str) -> WeightsError:
    """The error for a base that is not there."""
    return WeightsError(
        f"no weights of {name} in {str(base)!r}" if base else f"no weights of {name}",
        got=got,
        expected=f"a .safetensors, .pth or .bin file, or a folder with one, or with {name}{SAFETENSORS}",
        remedy="name the file with --base",
    )
