"""JSON files that are read with one clear line when they are not as they should be."""

import json
from pathlib import Path
from typing import Any

from model.errors import DataError


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read an object.

    Args:
        path: The file.
        remedy: What the user can do when it is missing or broken.

    Raises:
        DataError: It is missing, no JSON, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", got=error, expected="a JSON object", remedy=remedy) from error
    return content
