"""The part of Grand Challenge's contract that all tracks share: read inputs.json, write a result to /output.

The sockets of a track are in its handler, such as `model.classification`.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mitoscope.errors import InputError, OutputError
from mitoscope.files import describe_folder, partial_of, read_json, written_whole

EXAMPLE = "the inputs.json of test/input/interf0 (crops) or test/input/region0 (a region)"
INPUTS_NAME = "inputs.json"
INPUTS_BYTES = 1 << 20  # the platform's file has about a thousand


def read_slugs(input_dir: Path) -> tuple[str, ...]:
    """Read the slugs of a case's sockets from its ``inputs.json``.

    Args:
        input_dir: The case's folder, ``/input`` on the platform.

    Returns:
        The sorted slugs, which select the handler. A slug is in ``["socket"]["slug"]`` or, in the older format, in
        ``["interface"]["slug"]``; all other keys are ignored.

    Raises:
        InputError: The file is missing, not JSON, or not a list of objects with a slug each.
    """
    path = input_dir / INPUTS_NAME
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(input_dir), "")):  # noqa: PTH118 - never raises
        raise InputError(
            f"{INPUTS_NAME} is outside of the case's folder",
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
    """Read the slug of one object of inputs.json."""
    socket = (value.get("socket") or value.get("interface")) if isinstance(value, dict) else None
    slug = socket.get("slug") if isinstance(socket, dict) else None
    if not isinstance(slug, str):
        raise _malformed(path, repr(value)[:200])
    return slug


def _malformed(path: Path, got: str) -> InputError:
    """The error for JSON of another structure than the platform's."""
    return InputError(
        f"{str(path)!r} is malformed",
        got=got,
        expected='a list of objects, each with ["socket"]["slug"] or ["interface"]["slug"]',
        remedy="restore the file that the platform wrote",
    )


def check_writable(path: Path) -> None:
    """Make the output folder if it is missing, and test that a file can be written there; the file is removed.

    Raises:
        OutputError: No file can be written there.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.touch()
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def write_result(path: Path, content: Any) -> None:  # noqa: ANN401 - each track has its own
    """Write the result whole or not at all: the platform uploads all files of the folder, partial ones too.

    Args:
        path: A file in an existing folder, ``/output`` on the platform. An older result is replaced.
        content: JSON values, without NaN.

    Raises:
        OutputError: It cannot be written. The folder stays as it was.
    """
    try:
        with written_whole(path) as partial:
            partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def remove_partial(path: Path) -> None:
    """Remove the file that an interrupted `check_writable` or `write_result` left."""
    with suppress(OSError):
        partial_of(path).unlink()


def _unwritable(folder: Path, error: OSError) -> OutputError:
    """The error for a folder in which no file can be written."""
    return OutputError(
        f"the result cannot be written to {str(folder)!r}",
        got=error,
        expected="a folder that the user of this process may write to, with space left",
        remedy="name another with --output, or fix the cause",
    )
