"""Files that are written whole or not at all, and what tells one file from another."""

import hashlib
import json
from pathlib import Path
from typing import Any

from model.errors import DataError


def write_text(path: Path, text: str) -> None:
    """Write beside the file first, then rename: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as `write_text` does; a NaN in it is refused, since it is no JSON."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def check_file(out: Path) -> None:
    """Refuse a folder where a file is to be written, before anything is computed for it.

    Raises:
        DataError: It is one.
    """
    if out.is_dir():
        raise DataError(f"{out} is a folder", got="a folder", expected="a file's name after --out", remedy="add one")


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
