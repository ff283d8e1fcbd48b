"""One damaged byte in a bundle: it is found, or the same bundle is read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mitoscope.bundle.manifest import Base, Bundle, Member
from mitoscope.bundle.members import write_bundle
from mitoscope.bundle.read import MANIFEST, read_ahead, read_base, read_bundle
from mitoscope.errors import WeightsError
from tools.bench.bundles import make_bundle
from tools.bench.memory import ARCHITECTURE, SPEC, random_crops


def damage_bundle(count: int, seed: int, _workers: int, folder: Path) -> dict[str, int]:
    """Damage one byte `count` times: half in a bundle of five tiny networks, half in one of adapters on a base.

    In each, the manifest and the safetensors files take turns. Every second damage is one flipped bit, which changes a
    digit to another digit; the others are any other value.

    Returns:
        Counts: ``cases``, of them ``manifest_cases``; ``found`` (refused: `WeightsError`), ``without_effect`` and
        ``wrong``: any other error, or another bundle than the undamaged one.
    """
    full = make_bundle(folder / "bundle", ARCHITECTURE, SPEC, random_crops(8))
    names = ("cases", "manifest_cases", "found", "without_effect", "wrong")
    counts = dict.fromkeys(names, 0)
    for bundle, share in ((full.folder, count - count // 2), (_make_adapters(full), count // 2)):
        _damage(bundle, share, np.random.default_rng(seed), counts)
    return counts


def _make_adapters(full: Bundle) -> Path:
    """A bundle of two random adapters on a stored base."""
    members = tuple(Member(f"adapter{k}.safetensors", "", "adapter") for k in range(2))
    base = Base("", "MIT", "base.safetensors")
    bundle = replace(full, folder=full.folder.with_name("adapters"), members=members, base=base, rounding={})
    states = [{"layer.lora_a": torch.randn(2, 40), "layer.lora_b": torch.randn(60, 2)} for _ in members]
    return write_bundle(bundle, states, {"layer.weight": torch.randn(60, 40)}).folder


def _damage(bundle: Path, count: int, random: np.random.Generator, counts: dict[str, int]) -> None:
    """Damage one bundle `count` times and add to the counts."""
    whole = _read(bundle)
    members = sorted(bundle.glob("*.safetensors"))
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


def _read(folder: Path) -> tuple[Bundle, bytes | None, list[bytes]]:
    """Manifest, base and members of a bundle."""
    bundle = read_bundle(folder)
    return bundle, read_base(bundle), list(read_ahead(bundle))


def _judge(folder: Path, whole: tuple[Bundle, bytes | None, list[bytes]]) -> str:
    """The effect of the damage: the name of a count."""
    try:
        found = _read(folder)
    except WeightsError:
        return "found"
    except Exception:  # any other error is a fault of the reader
        return "wrong"
    return "without_effect" if found == whole else "wrong"
