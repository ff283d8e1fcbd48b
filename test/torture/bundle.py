"""One damaged byte in a bundle: it is found, or what is read is the same."""

from pathlib import Path

import numpy as np

from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.read import MANIFEST, read_ahead, read_bundle
from mitoscope.errors import WeightsError
from tools.bench.bundles import make_bundle
from tools.bench.memory import ARCHITECTURE, SPEC, random_crops


def damage_bundle(count: int, seed: int, _workers: int, folder: Path) -> dict[str, int]:
    """Damage one byte of a bundle of five tiny networks `count` times: the manifest and the members in turn.

    Every second damage of each is one flipped bit, which makes a digit of a digit; the others are any other value.

    Returns:
        Counts: ``cases``, of them ``manifest_cases``; ``found`` (refused: `WeightsError`), ``without_effect`` and
        ``wrong``: any other error, or a bundle that is read otherwise.
    """
    bundle = make_bundle(folder / "bundle", ARCHITECTURE, SPEC, random_crops(8)).folder
    random, whole = np.random.default_rng(seed), _read(bundle)
    members = sorted(bundle.glob("*.safetensors"))
    names = ("cases", "manifest_cases", "found", "without_effect", "wrong")
    counts = dict.fromkeys(names, 0)
    for case in range(count):
        path = members[case // 2 % len(members)] if case % 2 else bundle / MANIFEST
        content = path.read_bytes()
        at = int(random.integers(len(content)))
        flip = 1 << int(random.integers(8)) if case // 2 % 2 else int(random.integers(1, 256))
        path.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        counts["cases"] += 1
        counts["manifest_cases"] += path.name == MANIFEST
        counts[_judge(bundle, whole)] += 1
        path.write_bytes(content)
    return counts


def _read(folder: Path) -> tuple[Bundle, list[bytes]]:
    """All that is read of a bundle."""
    bundle = read_bundle(folder)
    return bundle, list(read_ahead(bundle))


def _judge(folder: Path, whole: tuple[Bundle, list[bytes]]) -> str:
    """What the damage did."""
    try:
        bundle, members = _read(folder)
    except WeightsError:
        return "found"
    except Exception:  # any other is a fault of the reader's
        return "wrong"
    return "without_effect" if (bundle, members) == whole else "wrong"
