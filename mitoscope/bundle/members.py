"""Parse a bundle's bytes as tensors; write tensors as a new bundle."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import safetensors.torch
import torch
from torch import Tensor

from mitoscope.bundle.checks import RESTORE
from mitoscope.bundle.formats import to_json
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.read import CHECKSUM, MANIFEST, hash_manifest, read_bundle
from mitoscope.errors import WeightsError
from mitoscope.files import write_text, written_folder

State = Mapping[str, Tensor]
FEW_INPUTS = 3  # of a kernel, for each of its outputs


def parse_member(content: bytes, name: str) -> dict[str, Tensor]:
    """Turn a member's bytes into tensors.

    Args:
        content: As `mitoscope.bundle.read.read_content` returns it.
        name: Name of the file, for the message.

    Returns:
        Tensor name → tensor, in the precision of the file.

    Raises:
        WeightsError: It is not a safetensors file.
    """
    try:
        return safetensors.torch.load(content)
    except MemoryError:
        raise
    except Exception as error:  # the parser's error type is not public
        raise WeightsError(
            f"{name} is not a safetensors file", got=error, expected="a safetensors file", remedy=RESTORE
        ) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # the parser panics where it finds no memory
            raise MemoryError from error
        raise


def write_bundle(
    bundle: Bundle, states: Sequence[State], base: State | None = None, *, files: Mapping[str, str] | None = None
) -> Bundle:
    """Write a bundle whole or not at all, replacing an older one in the same folder.

    Matrices and kernels are stored in fp16. Vectors (biases, norms, running statistics) stay in fp32: they are small,
    and rounding harms them most.

    Args:
        bundle: The manifest and the folder; the ``sha256`` of members and base are computed here.
        states: One state dict per member, in the members' order.
        base: State dict of the base, if the bundle holds it.
        files: Other text files of the bundle by name, such as its model card.

    Returns:
        The bundle as `read_bundle` reads it back.

    Raises:
        WeightsError: The folder holds something else than a bundle, or a weight does not fit in fp16.
        ValueError: The base is missing, or the number of states is not the number of members.
    """
    folder = bundle.folder
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise WeightsError(
            f"{folder} cannot be replaced",
            got="other files than a bundle's",
            expected="a bundle, or an empty or missing folder",
            remedy="name another folder",
        )
    with written_folder(folder) as scratch:

        def store(file: str, state: State) -> str:
            content = safetensors.torch.save({name: _stored(tensor) for name, tensor in state.items()})
            (scratch / file).write_bytes(content)
            return hashlib.sha256(content).hexdigest()

        if bundle.base and bundle.base.file:
            if base is None:
                raise ValueError("the bundle holds its base: base must be its state dict")
            bundle = replace(bundle, base=replace(bundle.base, sha256=store(bundle.base.file, base)))
        hashed = [
            replace(member, sha256=store(member.file, state))
            for member, state in zip(bundle.members, states, strict=True)
        ]
        manifest = json.loads(json.dumps(to_json(replace(bundle, members=tuple(hashed))), allow_nan=False))
        manifest[CHECKSUM] = hash_manifest(manifest)
        write_text(scratch / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for name, text in (files or {}).items():
            write_text(scratch / name, text)
        read_bundle(scratch)
    return read_bundle(folder)


def _stored(tensor: Tensor) -> Tensor:
    """Convert a tensor to its stored form: contiguous, on the CPU, matrices and kernels in fp16.

    Not the kernels of few inputs, depthwise ones and the first: they are small, and rounding them moves a probability
    of EfficientNet-Lite0 three times as far as rounding all others does.
    """
    half = tensor.is_floating_point() and tensor.ndim > 1 and tensor.shape[1] > FEW_INPUTS
    stored = tensor.detach().to("cpu", torch.float16 if half else tensor.dtype).contiguous()
    if not torch.isfinite(stored).all():
        raise WeightsError(
            "a weight cannot be stored",
            got="infinity or NaN in fp16",
            expected="weights below 65,504",
            remedy="train again: a network with such weights is broken",
        )
    return stored
