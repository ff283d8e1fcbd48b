"""JSON files that are read with one clear line when they are not as they should be."""

from pathlib import Path
from typing import Any

from model.errors import DataError
from model.files import read_json as read_json_value


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read an object.

    Args:
        path: The file.
        remedy: What the user can do when it is missing or broken.

    Raises:
        DataError: It is missing, no JSON, or no object.
    """
    try:
        content = read_json_value(path)
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", got=error, expected="a JSON object", remedy=remedy) from error
    return content
