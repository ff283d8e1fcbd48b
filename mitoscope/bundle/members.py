"""Members as tensors: parsed from a bundle's bytes, and written as a new bundle."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from model.bundle import CHECKSUM, FORMAT, MANIFEST, hash_manifest, read_bundle
from model.errors import WeightsError
from model.manifest import RESTORE, Bundle


def parse_member(content: bytes, name: str) -> dict[str, Tensor]:
    """Turn a member's bytes into tensors.

    Args:
        content: What `model.bundle.read_content` gave.
        name: The file's, for a message.

    Returns:
        Tensor name → tensor, in the precision of the file.

    Raises:
        WeightsError: It is no safetensors file.
    """
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the parser's error type is not public
        raise WeightsError(
            f"{name} is no safetensors file", got=error, expected="a safetensors file", remedy=RESTORE
        ) from error


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
        raise WeightsError(
            f"{folder} is no bundle to be replaced",
            got="other files",
            expected="a bundle, or nothing there",
            remedy="name another folder",
        )
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
        manifest[CHECKSUM] = hash_manifest(json.loads(json.dumps(manifest)))  # as it is read back
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
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:  # an interrupt is heard after a rename as well as before it
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _stored(tensor: Tensor) -> Tensor:
    """The tensor as the file holds it: contiguous, on the CPU, matrices in fp16."""
    half = tensor.is_floating_point() and tensor.ndim > 1
    stored = tensor.detach().to("cpu", torch.float16 if half else tensor.dtype).contiguous()
    if not torch.isfinite(stored).all():
        raise WeightsError(
            "a weight cannot be stored",
            got="infinity or NaN in fp16",
            expected="weights below 65,504",
            remedy="train again: a network with such weights is broken",
        )
    return stored
