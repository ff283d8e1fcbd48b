"""What Grand Challenge gives the container and expects back: slugs, paths, class names (MIDOG 2025, Track 2).

Everything that is the platform's choice rather than ours stands here, so that no other module knows its words.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from model.errors import DeviceError, InputError, OutputError
from model.files import read_json

INPUT_SLUG = "stacked-histopathology-roi-cropouts"
EXAMPLE = "test/input/interf0/inputs.json"
INPUTS_NAME = "inputs.json"
INPUTS_BYTES = 1 << 20  # the platform's holds about a thousand
IMAGES_FOLDER = f"images/{INPUT_SLUG}"
OUTPUT_NAME = "multiple-mitotic-figure-classification.json"
CLASS_NAMES = ("normal", "atypical")  # index 1 is the positive class
CROP_PX = 128  # the side of a page
PAGE_LIMIT = 1024  # the platform sends 1 to 16 pages; longer stacks are scored offline, and more is a mistake

# One page's answer. "confidence" is P(atypical), whatever the class says.
Record = TypedDict("Record", {"class": str, "confidence": float})


def read_slugs(input_dir: Path) -> tuple[str, ...]:
    """Say which sockets a case fills, from its ``inputs.json``.

    Args:
        input_dir: The case's folder, ``/input`` on the platform.

    Returns:
        The sorted slugs: the key by which a handler is chosen. A slug stands in ``["socket"]["slug"]`` or, in the
        older spelling, in ``["interface"]["slug"]``; all other keys are ignored.

    Raises:
        InputError: The file is missing, is no JSON, or is no list of objects with a slug each.
    """
    path = input_dir / INPUTS_NAME
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(input_dir), "")):  # noqa: PTH118 - never raises
        raise InputError(
            f"{INPUTS_NAME} lies outside of the case",
            got=f"a symbolic link to {os.path.realpath(path)!r}",
            expected=f"a file in {str(input_dir)!r}",
            remedy="copy the file instead of linking it",
        )
    try:
        values = read_json(path, INPUTS_BYTES, "utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            f"no {INPUTS_NAME} in {str(input_dir)!r}",
            got=describe_folder(input_dir),
            expected=f"a case's folder, with {INPUTS_NAME} and images/ in it",
            remedy=f"name it with --input, or copy {EXAMPLE} into it",
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read",
            got=f"{type(error).__name__}: {error}",
            expected="UTF-8 JSON",
            remedy="restore the file that the platform wrote",
        ) from error
    if not isinstance(values, list):
        raise _malformed(path, f"a JSON {type(values).__name__}")
    return tuple(sorted(_slug(path, value) for value in values))


def _slug(path: Path, value: object) -> str:
    """The slug of one object of inputs.json."""
    socket = (value.get("socket") or value.get("interface")) if isinstance(value, dict) else None
    slug = socket.get("slug") if isinstance(socket, dict) else None
    if not isinstance(slug, str):
        raise _malformed(path, repr(value)[:200])
    return slug


def _malformed(path: Path, got: str) -> InputError:
    """The error for JSON that is not what the platform writes."""
    return InputError(
        f"{str(path)!r} is malformed",
        got=got,
        expected='a list of objects, each with ["socket"]["slug"] or ["interface"]["slug"]',
        remedy="restore the file that the platform wrote",
    )


def describe_folder(folder: Path, limit: int = 8) -> str:
    """What lies at a path where a folder should be, in words few enough to leave room for the rest of the line."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    try:
        names = sorted(path.name[:80] for path in folder.iterdir())
    except OSError:
        return "a folder that cannot be listed"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"a folder that holds {names[:limit]}{more}" if names else "an empty folder"


def encode_result(p_atypical: Iterable[float], threshold: float) -> list[Record]:
    """Turn probabilities into the platform's records.

    Args:
        p_atypical: P(atypical) a page, in page order, each in [0, 1].
        threshold: A page is atypical when its probability is at least this.

    Returns:
        One record a page. ``confidence`` is a Python float, and so a JSON float even at 0.0 and 1.0: the evaluator
        fails a whole submission that holds an integer, or a NaN (which the platform turns into null).

    Raises:
        DeviceError: A probability is not a number in [0, 1].
    """
    values = [float(p) for p in p_atypical]
    for page, p in enumerate(values, start=1):
        if not (math.isfinite(p) and 0 <= p <= 1):
            raise DeviceError(
                f"the probability of page {page} is unusable",
                got=p,
                expected="a number in [0, 1]",
                remedy="run again with --precision fp32",
            )
    return [{"class": CLASS_NAMES[p >= threshold], "confidence": p} for p in values]


def check_writable(folder: Path) -> None:
    """Make the output folder where it is missing and prove that a file can be written there, leaving none behind.

    Raises:
        OutputError: It cannot.
    """
    partial = _partial(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            partial.touch()
        finally:  # a signal that stops the process may come in between
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_result(folder: Path, records: Sequence[Record]) -> Path:
    """Write the result whole or not at all: all of the folder is uploaded, half a file included.

    Args:
        folder: An existing folder, ``/output`` on the platform. A result that lies there is replaced.
        records: One record a page, in page order.

    Returns:
        The file.

    Raises:
        OutputError: It cannot be written. The folder is then as it was.
    """
    path, partial = folder / OUTPUT_NAME, _partial(folder)
    text = json.dumps(records, indent=1, allow_nan=False) + "\n"
    try:
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return path


def take_back(folder: Path) -> None:
    """Remove what `check_writable` or `write_result` left, where their process ends in the middle."""
    with suppress(OSError):
        _partial(folder).unlink()


def _partial(folder: Path) -> Path:
    """The temporary name, in the same folder so that the rename cannot cross a file system."""
    return folder / f".{OUTPUT_NAME}.partial"


def _unwritable(folder: Path, error: OSError) -> OutputError:
    """The error for a folder that takes no file."""
    return OutputError(
        f"the result cannot be written to {str(folder)!r}",
        got=error,
        expected="a folder that the user of this process may write to, with space left",
        remedy="name another with --output, or correct that",
    )
