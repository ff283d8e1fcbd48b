import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mitoscope.bundle.find import MANIFEST_BYTES, MEMBER_BYTES, find_bundle, read_bundle, read_content
from mitoscope.bundle.manifest import Threshold
from mitoscope.bundle.members import parse_member, write_bundle
from mitoscope.errors import WeightsError
from mitoscope.images.stain import describe_crops
from model import bundle as module


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to be spoilt."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def edit(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_what_is_written_reads_back(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    assert (bundle.name, bundle.architecture, bundle.positive_class) == ("tiny", "efficientvit_b0", "atypical")
    assert [member.file for member in bundle.members] == [f"fold{k}.safetensors" for k in range(5)]


@pytest.mark.parametrize("described", [True, False])
def test_the_training_crops_read_back_and_older_bundles_have_none(copy: Path, described: bool) -> None:
    bundle = read_bundle(copy)
    assert bundle.training_crops is None
    training_crops = describe_crops(np.random.default_rng(0).normal(size=(50, 7))) if described else None
    states = [parse_member(read_content(bundle, member), member.file) for member in bundle.members]
    assert write_bundle(replace(bundle, training_crops=training_crops), states).training_crops == training_crops
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest.pop("training_crops") == (asdict(training_crops) if training_crops else None)
    del manifest["checksum"]
    (copy / "manifest.json").write_text(json.dumps(manifest))  # as it was written before there were such fields
    assert read_bundle(copy).training_crops is None


def test_kernels_are_stored_in_half_precision_and_vectors_whole(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    state = parse_member(read_content(bundle, bundle.members[0]), "fold0")
    kinds = {(tensor.ndim > 1, tensor.dtype) for tensor in state.values() if tensor.is_floating_point()}
    assert kinds == {(True, torch.float16), (False, torch.float32)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "unknown format: got 2"),
        ({"positive_class": "normal"}, "predicts another class"),
        ({"threshold": {"value": 1.5, "rule": "", "fitted_on": "", "n_crops": 0}}, "threshold is unusable: got 1.5"),
        ({"threshold": {"value": 0.5}}, "malformed"),
        ({"members": []}, "lists other members"),
        (
            {"input": {"crop_px": 63, "size_px": 64, "interpolation": "bicubic", "mean": [0] * 3, "std": [1] * 3}},
            "crop_px=63",
        ),
        ({"input": 3}, "malformed"),
        ({"training_crops": 3}, "malformed"),
        ({"training_crops": {"n_crops": 1, "features": []}}, "malformed"),
        ({"training_crops": {"n_crops": 1, "features": {"sharpness": {"mean": 0}}}}, "malformed"),
        ({"training_crops": {"n_crops": 1, "features": {}}}, "training crops are not described"),
    ],
)
def test_an_unusable_manifest_is_explained(copy: Path, changes: dict[str, object], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(WeightsError, match=message):
        read_bundle(copy)


def test_a_member_outside_the_folder_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["members"][0]["file"] = "../fold0.safetensors"
    edit(copy, members=manifest["members"])
    with pytest.raises(WeightsError, match="lists other members"):
        read_bundle(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}'])
def test_a_broken_manifest_is_explained(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        read_bundle(copy)


@pytest.mark.parametrize("fault", ["missing", "sixth"])
def test_other_than_five_members_are_refused(copy: Path, fault: str) -> None:
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


def test_a_manifest_that_was_changed_is_found_however_it_is_laid_out(copy: Path) -> None:
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
def test_what_is_no_file_or_too_large_is_refused_unread(copy: Path, name: str, kind: str) -> None:
    bundle, limit = read_bundle(copy), {"manifest.json": MANIFEST_BYTES}.get(name, MEMBER_BYTES)
    if kind == "pipe":
        (copy / name).unlink()
        os.mkfifo(copy / name)
    else:
        os.truncate(copy / name, limit + 1)
    said = "no file, but a folder, a pipe or a device" if kind == "pipe" else f"more than {limit:,}"
    with pytest.raises(WeightsError, match=f"{name} cannot be read: got .*{said}"):
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


def test_a_member_that_is_no_safetensors_file_is_refused_though_its_hash_be_right(copy: Path) -> None:
    import hashlib

    (copy / "fold0.safetensors").write_bytes(b"not tensors")
    members = json.loads((copy / "manifest.json").read_text())["members"]
    members[0]["sha256"] = hashlib.sha256(b"not tensors").hexdigest()
    edit(copy, members=members)
    bundle = read_bundle(copy)
    with pytest.raises(WeightsError, match="no safetensors file"):
        parse_member(read_content(bundle, bundle.members[0]), "fold0")


def test_an_interrupt_between_the_old_and_the_new_leaves_the_older_bundle(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, rename = read_bundle(copy), Path.rename
    states = [parse_member(read_content(bundle, member), member.file) for member in bundle.members]

    def interrupted(path: Path, target: Path) -> Path:
        if target == copy and not path.name.endswith(".old"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(replace(bundle, name="newer"), states)
    assert read_bundle(copy) == bundle
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize(("last", "left"), [("old", "tiny"), ("new", "newer")])
def test_an_interrupt_that_is_heard_after_a_rename_leaves_one_whole_bundle(
    copy: Path, monkeypatch: pytest.MonkeyPatch, last: str, left: str
) -> None:
    bundle, rename = read_bundle(copy), Path.rename
    states = [parse_member(read_content(bundle, member), member.file) for member in bundle.members]

    def interrupted(path: Path, target: Path) -> Path:
        rename(path, target)
        if not path.name.endswith(".old") and (path == copy) == (last == "old"):
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(replace(bundle, name="newer"), states)
    assert read_bundle(copy).name == left
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("name", ["my bundle", "a/b", ""])
def test_a_name_that_no_file_can_bear_is_refused(copy: Path, name: str) -> None:
    edit(copy, name=name)
    with pytest.raises(WeightsError, match="the bundle's name is unusable"):
        read_bundle(copy)


def test_a_message_has_an_end(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "checksum": "f" * 200_000}))
    with pytest.raises(WeightsError, match=r"was altered.*delete its checksum") as caught:
        read_bundle(copy)
    assert len(str(caught.value)) < 2000


def test_a_failed_write_leaves_the_older_bundle(copy: Path) -> None:
    bundle = read_bundle(copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    states = [safetensors.torch.load_file(copy / member.file) for member in bundle.members]
    with pytest.raises(ValueError, match="zip"):
        write_bundle(bundle, states[:4])
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_folder_that_is_no_bundle_is_not_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    bundle = replace(read_bundle(tiny_bundle), folder=tmp_path)
    with pytest.raises(WeightsError, match="is no bundle to be replaced"):
        write_bundle(bundle, [{}] * 5)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_weight_beyond_half_precision_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = replace(read_bundle(tiny_bundle), folder=tmp_path / "new")
    with pytest.raises(WeightsError, match="a weight cannot be stored"):
        write_bundle(bundle, [{"kernel": torch.full((2, 2), 1e5)}] * 5)
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_must_be_a_float() -> None:
    with pytest.raises(WeightsError, match="threshold is unusable: got 1"):
        Threshold(1, "", "", 0)  # type: ignore[arg-type]


class TestFindBundle:
    @pytest.fixture(autouse=True)
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MODEL_TARBALL", "BAKED", "CHECKOUT"):
            monkeypatch.setattr(module, name, tmp_path / name)

    def put(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("broken")
        return folder

    def test_the_tarball_comes_before_the_image_and_the_checkout(self) -> None:
        checkout = self.put(module.CHECKOUT)
        assert find_bundle() == checkout
        baked = self.put(module.BAKED)
        assert find_bundle() == baked
        nested = self.put(module.MODEL_TARBALL / "some-name")
        assert find_bundle() == nested

    def test_a_broken_manifest_is_found_and_then_refused_not_passed_over(self) -> None:
        self.put(module.BAKED)
        self.put(module.MODEL_TARBALL)
        with pytest.raises(WeightsError, match="MODEL_TARBALL.*cannot be read"):
            read_bundle(find_bundle())

    def test_two_manifests_in_the_tarball_are_refused(self) -> None:
        self.put(module.MODEL_TARBALL / "a")
        self.put(module.MODEL_TARBALL / "b")
        with pytest.raises(WeightsError, match="ambiguous"):
            find_bundle()

    def test_a_tarball_without_a_manifest_where_it_is_looked_for_is_refused(self) -> None:
        self.put(module.BAKED)
        module.MODEL_TARBALL.mkdir()
        assert find_bundle() == module.BAKED
        self.put(module.MODEL_TARBALL / "weights" / "l2")
        with pytest.raises(
            WeightsError, match=r"the model tarball holds no bundle: got a folder that holds \['weights'\]"
        ):
            find_bundle()

    def test_nothing_anywhere_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no weights bundle"):
            find_bundle()

    def test_a_wrong_path_says_what_lies_there(self, tmp_path: Path) -> None:
        self.put(tmp_path / "weights" / "lite")
        (tmp_path / "a file").touch()
        for path, got in (
            ("elsewhere", "no such folder"),
            ("a file", "a file"),
            ("weights", r"a folder that holds \['lite'\]"),
        ):
            with pytest.raises(WeightsError, match=f"no bundle in '.*{path}': got {got}, expected a folder with m"):
                find_bundle(tmp_path / path)
