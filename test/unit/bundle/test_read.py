import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mitoscope.bundle.members import parse_member
from mitoscope.bundle.read import MANIFEST_BYTES, MEMBER_BYTES, read_bundle, read_content
from mitoscope.errors import WeightsError


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 2}'])
def test_a_broken_manifest_is_explained(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        read_bundle(copy)


@pytest.mark.parametrize("fault", ["missing", "surplus"])
def test_a_missing_or_surplus_member_is_refused(copy: Path, fault: str) -> None:
    if fault == "missing":
        (copy / "fold3.safetensors").unlink()
    else:
        shutil.copy(copy / "fold0.safetensors", copy / "fold5.safetensors")
    with pytest.raises(WeightsError, match="holds other members"):
        read_bundle(copy)


def test_swapped_members_are_found(copy: Path) -> None:
    (copy / "fold0.safetensors").rename(copy / "x")
    (copy / "fold1.safetensors").rename(copy / "fold0.safetensors")
    (copy / "x").rename(copy / "fold1.safetensors")
    bundle = read_bundle(copy)
    with pytest.raises(WeightsError, match=r"fold0\.safetensors was altered or swapped"):
        read_content(bundle, bundle.members[0])


def test_a_changed_manifest_is_found_whatever_its_layout(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))  # the same in one line
    read_bundle(copy)
    manifest = json.loads(path.read_text())
    manifest["threshold"]["value"] += 0.001
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=r"manifest\.json was altered: .*delete its checksum if you changed"):
        read_bundle(copy)


@pytest.mark.parametrize("name", ["manifest.json", "fold0.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "too large"])
def test_a_pipe_or_a_file_that_is_too_large_is_not_read(copy: Path, name: str, kind: str) -> None:
    bundle, limit = read_bundle(copy), {"manifest.json": MANIFEST_BYTES}.get(name, MEMBER_BYTES)
    if kind == "pipe":
        (copy / name).unlink()
        os.mkfifo(copy / name)
    else:
        os.truncate(copy / name, limit + 1)
    reason = "no file, but a folder, a pipe or a device" if kind == "pipe" else f"more than {limit:,}"
    with pytest.raises(WeightsError, match=f"{name} cannot be read: got .*{reason}"):
        read_content(bundle, bundle.members[0])
        read_bundle(copy)


def test_one_flipped_bit_is_found(copy: Path) -> None:
    path = copy / "fold4.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    bundle = read_bundle(copy)
    with pytest.raises(WeightsError, match=r"fold4\.safetensors was altered"):
        read_content(bundle, bundle.members[4])


def test_a_member_of_another_format_is_refused_although_its_hash_is_right(
    copy: Path, edit: Callable[..., None]
) -> None:
    (copy / "fold0.safetensors").write_bytes(b"not tensors")
    members = json.loads((copy / "manifest.json").read_text())["members"]
    members[0]["sha256"] = hashlib.sha256(b"not tensors").hexdigest()
    edit(copy, members=members)
    bundle = read_bundle(copy)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        parse_member(read_content(bundle, bundle.members[0]), "fold0")


def test_a_message_is_short(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "checksum": "f" * 200_000}))
    with pytest.raises(WeightsError, match=r"was altered.*delete its checksum") as caught:
        read_bundle(copy)
    assert len(str(caught.value)) < 2000
