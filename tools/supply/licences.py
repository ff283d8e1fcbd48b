"""The licences of what the image carries, held against those that were agreed to.

    python -m tools.supply.licences [SBOM]

Without an SBOM: of the distributions of requirements.txt, as they are installed here.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

from tools.supply.sbom import normalise, read_licence

LOCK = Path(__file__).parents[2] / "requirements.txt"

# What may be shipped, by SPDX identifier. None asks for more than notices; MPL-2.0 (tqdm) also for its files' source.
ALLOWED = frozenset(
    ["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib"]
)

# How distributions spell them. "BSD" alone does not say which: all of them have three clauses or fewer.
SPELLINGS = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}

# NVIDIA's licences permit passing the CUDA libraries on as a part of an application. Other packages may not have them.
NVIDIA = frozenset(
    {"NVIDIA Proprietary Software", "LicenseRef-NVIDIA-Proprietary", "LicenseRef-NVIDIA-SOFTWARE-LICENSE"}
)
NVIDIA_NAMES = ("nvidia-", "cuda-bindings")

NO_CODE = frozenset({"evalutils"})  # metadata and one requirement (docs/adr/0003): there is nothing to license


def judge(name: str, licence: str) -> str | None:
    """The licence in SPDX's words, "NVIDIA", "no code", or None where it was not agreed to.

    Args:
        name: The distribution's normalised name.
        licence: As the distribution names it; in ``A AND B`` both must be allowed, in ``A OR B`` one.
    """
    if licence in NVIDIA:
        return "NVIDIA" if name.startswith(NVIDIA_NAMES) else None
    if licence == "unknown" and name in NO_CODE:
        return "no code"
    kept = []
    for part in SPELLINGS.get(licence, licence).split(" AND "):
        choices = [SPELLINGS.get(choice, choice) for choice in part.split(" OR ")]
        allowed = [choice for choice in choices if choice in ALLOWED]
        if not allowed:
            return None
        kept.append(allowed[0])
    return " AND ".join(kept)


def read_locked(lock: Path) -> dict[str, str]:
    """Name → licence of each distribution of a lock, which must be installed here."""
    names = re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalise(name): read_licence(distribution(name).metadata) for name in names}


def read_sbom(sbom: Path) -> dict[str, str]:
    """Name → licence of each Python distribution of an SBOM."""
    components = json.loads(sbom.read_text(encoding="utf-8"))["components"]
    return {each["name"]: each["licenses"][0]["license"]["name"] for each in components if "licenses" in each}


def check(licences: Mapping[str, str]) -> int:
    """Print how many distributions have which licence, and those that were not agreed to: 1 where there are any."""
    judged = {name: judge(name, licence) for name, licence in licences.items()}
    for licence, count in sorted(Counter(filter(None, judged.values())).items()):
        print(f"{count:4d}  {licence}")
    refused = [name for name, licence in judged.items() if licence is None]
    for name in refused:
        print(
            f"error: the licence of {name} was not agreed to: got {licences[name]!r}, expected one of "
            f"{', '.join(sorted(ALLOWED))}; read it, then add it to supply/licences.py or drop the package",
            file=sys.stderr,
        )
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(check(read_sbom(Path(sys.argv[1])) if sys.argv[1:] else read_locked(LOCK)))
