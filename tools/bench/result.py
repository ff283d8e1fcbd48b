"""Print a benchmark's result as one JSON object, and write it to a file on request."""

import json
from pathlib import Path
from typing import Any

from mitoscope.files import write_json


def print_result(result: dict[str, Any], out: Path | None) -> None:
    """Print a result, and write it to `out` if given."""
    print(json.dumps(result, indent=1))
    if out:
        write_json(out, result)
