"""How a benchmark ends: one JSON object, printed, and written where that is asked for."""

import json
from pathlib import Path
from typing import Any

from mitoscope.files import write_json


def tell(result: dict[str, Any], out: Path | None) -> None:
    """Print a result, and write it whole or not at all to `out` if there is one."""
    print(json.dumps(result, indent=1))
    if out:
        write_json(out, result)
