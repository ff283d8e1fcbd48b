"""Embeddings on disk: each crop is embedded once, by its pixels, the network and the preprocessing."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mitoscope.classify.classifier import FORWARD_CROPS
from mitoscope.classify.orientation import find_standard, to_standard
from mitoscope.errors import DataError
from mitoscope.files import read_object, write_bytes, write_json
from mitoscope.networks.views import ORIENTATIONS, turn
from mitoscope.progress import progress
from mitoscope.provenance import describe_machine, list_versions, read_commit
from mitoscope.training.data.table import CropData
from mitoscope.training.foundation.embedder import Embedder
from mitoscope.training.marks import claimed

RECORD = "embeddings.json"
BLOCK_CROPS = 1024  # in a file; what an interrupted run does again at most


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a data folder's crops.

    Attributes:
        record: embeddings.json: what made them (``made_by``), and the commit, versions and machine.
        values: float32 (N, V, D): an embedding for each of V views, in the table's order. Without orientations there
            is one view, the crop as it comes.
    """

    record: dict[str, Any]
    values: np.ndarray

    @property
    def sha256(self) -> str:
        """A hash of what made them."""
        return _hash(self.record["made_by"])


def describe(embedder: Embedder, orientations: int) -> dict[str, Any]:
    """All that decides what an embedding is.

    Args:
        embedder: The network.
        orientations: In how many orientations it sees each crop, from the standard one on (see
            `mitoscope.classify.orientation`); 0: once, as it comes.
    """
    return {
        "network": embedder.name,
        "base_sha256": embedder.base.sha256,
        "licence": embedder.base.licence,
        "dimension": embedder.dimension,
        "input": json.loads(json.dumps(asdict(embedder.input))),
        "precision": embedder.precision,
        "orientations": orientations,
    }


def _hash(made_by: dict[str, Any]) -> str:
    """A hash of what `describe` returns."""
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()


def embed(data: CropData, embedder: Embedder, out: Path, orientations: int = 0) -> int:
    """Embed every crop whose pixels are not in the folder yet; another run continues an interrupted one.

    Writes embeddings.json and blocks of `BLOCK_CROPS` crops, each whole or not at all: ``embeddings`` (n, V, D), in
    fp16 for networks in fp16 else in fp32, and ``pixels``, the crops' SHA-256. Memory does not grow with the crops.

    Args:
        data: The crops.
        embedder: On its device.
        out: The folder. It may hold embeddings of other crops by the same network.
        orientations: See `describe`.

    Returns:
        How many crops were embedded; the others were there.

    Raises:
        DataError: The folder belongs to another network, input or precision; another process works in it; or a block
            is damaged.
    """
    if not 0 <= orientations <= ORIENTATIONS:
        raise DataError(
            "--orientations is out of range", got=orientations, expected=f"0 to {ORIENTATIONS}", remedy="correct it"
        )
    made_by = describe(embedder, orientations)
    with claimed(out, {"embedder_sha256": _hash(made_by)}):
        known = {digest for block in _blocks(out) for digest in _read_hashes(block)}
        wanted = data.table["sha256"].drop_duplicates()
        rows = wanted.index[[bytes.fromhex(digest) not in known for digest in wanted]].to_numpy()
        number = 1 + max((int(block.stem.partition("-")[2]) for block in _blocks(out)), default=-1)
        start = time.monotonic()
        with progress(len(rows), unit="crops", what="embedding") as bar:
            for first in range(0, len(rows), BLOCK_CROPS):
                chosen = rows[first : first + BLOCK_CROPS]
                block = _embed_block(data, embedder, chosen, orientations, bar.update)
                write_bytes(out / f"block-{number:05}.safetensors", block)
                number += 1
        if len(rows) or not (out / RECORD).is_file():
            seconds = {"crops_embedded": len(rows), "seconds": round(time.monotonic() - start, 1)}
            code = {"commit": read_commit(), "versions": list_versions("torch", "timm"), "machine": describe_machine()}
            runs = read_object(out / RECORD, f"delete {out}").get("runs", []) if (out / RECORD).is_file() else []
            write_json(out / RECORD, {"made_by": made_by, "runs": [*runs, seconds | code]})
    return len(rows)


def _embed_block(
    data: CropData, embedder: Embedder, rows: np.ndarray, orientations: int, update: Callable[[int], None]
) -> bytes:
    """The bytes of one block."""
    at_once = max(1, FORWARD_CROPS[embedder.device.type] // max(1, orientations))
    parts = []
    for first in range(0, len(rows), at_once):
        batch = rows[first : first + at_once]
        parts.append(embed_views(embedder, data.crops[batch], orientations).cpu())
        update(len(batch))
    embeddings = torch.cat(parts)
    stored = embeddings.to(torch.float16 if embedder.precision == "fp16" else torch.float32)
    if not torch.isfinite(stored).all():
        raise DataError(
            "an embedding is not finite",
            got=f"overflow in {embedder.precision} on {embedder.device}",
            expected="finite values",
            remedy="use --precision fp32",
        )
    hashes = np.stack([np.frombuffer(bytes.fromhex(digest), np.uint8) for digest in data.table["sha256"].iloc[rows]])
    return safetensors.torch.save({"embeddings": stored.contiguous(), "pixels": torch.from_numpy(hashes)})


def embed_views(embedder: Embedder, crops: np.ndarray, orientations: int) -> Tensor:
    """Embed some crops at once: uint8 (N, 128, 128, 3) → float32 (N, V, D) on the device; see `describe`."""
    if not orientations:
        return embedder.embed(crops)[:, None]
    pixels = torch.from_numpy(np.ascontiguousarray(crops))
    images = to_standard(pixels, find_standard(pixels)).permute(0, 3, 1, 2)
    views = [turn(images, number).permute(0, 2, 3, 1).contiguous() for number in range(orientations)]
    embeddings = embedder.embed(torch.cat(views))  # (V × N, D)
    return embeddings.reshape(orientations, len(crops), -1).transpose(0, 1)


def _blocks(folder: Path) -> list[Path]:
    """The files of embeddings, in the order in which they were written."""
    return sorted(folder.glob("block-*.safetensors"))


def _read_hashes(block: Path) -> list[bytes]:
    """Whose embeddings a block holds."""
    try:
        with safetensors.safe_open(block, "pt") as file:
            return [row.tobytes() for row in file.get_tensor("pixels").numpy()]
    except Exception as error:  # the parser's error type is not public
        raise DataError(
            f"{block} cannot be read", got=error, expected="a block of embeddings", remedy="delete that file"
        ) from error


def read_embeddings(folder: Path, data: CropData) -> Embeddings:
    """Read the embeddings of a data folder's crops.

    Raises:
        DataError: The folder holds none, a block is damaged, or some crops were not embedded.
    """
    remedy = f"run mitoscope train embed … --out {folder}"
    record = read_object(folder / RECORD, remedy, ("made_by",))
    wanted: dict[bytes, list[int]] = {}
    for row, digest in enumerate(data.table["sha256"]):
        wanted.setdefault(bytes.fromhex(digest), []).append(row)
    made_by = record["made_by"]
    values = np.empty((len(data.table), max(1, made_by["orientations"]), made_by["dimension"]), np.float32)
    for block in _blocks(folder):
        hashes = _read_hashes(block)
        embeddings = safetensors.torch.load_file(block)["embeddings"].float().numpy()
        for place, digest in enumerate(hashes):
            values[wanted.pop(digest, [])] = embeddings[place]
    if wanted:
        first = data.table["image_id"].iloc[next(iter(wanted.values()))[0]]
        raise DataError(
            f"{folder} lacks crops of this data folder",
            got=f"{len(wanted)} crops without an embedding, such as {first}",
            expected="every crop",
            remedy=remedy,
        )
    return Embeddings(record, values)
