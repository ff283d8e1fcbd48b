"""A tiny ViT whose published weights are a local file: LoRA on three folds → a bundle with one base → inference.py."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.cli import main
from mitoscope.errors import DataError, WeightsError
from mitoscope.files import hash_file
from mitoscope.networks.build import build_network
from mitoscope.networks.foundation import FOUNDATION, Foundation
from mitoscope.networks.shared import SharedMember
from mitoscope.sockets import OUTPUT_NAME
from mitoscope.training.classify.members import find_base
from mitoscope.training.classify.publish import publish
from mitoscope.training.fit import fit_member
from mitoscope.training.study.launch import FitJob
from mitoscope.training.study.study import Recipe, read_study, run_study

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    *("architecture=test_vit", "method=lora", "lora.rank=2", "lora.modules=qkv,fc1", "input.size_px=48"),
    *("learning_rate=0.01", "ema_decay=0", "epochs=1"),
)


def fit_here(jobs: list[FitJob]) -> None:
    for job in jobs:
        fit_member(job.data, job.folds, job.fold, job.out, job.preset, job.settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bases") / "test_vit.safetensors"
    safetensors.torch.save_file(build_network("test_vit", 48).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def study(base: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds by LoRA."""
    folder = tmp_path_factory.mktemp("studies") / "lora"
    run_study(data_folder, folder, Recipe("smoke", (*SETTINGS, f"init={base}"), 3), ["source=other"], fit_here)
    return folder


def test_a_member_is_small_and_its_checkpoint_too(study: Path, base: Path) -> None:
    for name in ("member.safetensors", "best.ckpt", "last.ckpt"):
        assert (study / "fold0" / name).stat().st_size < base.stat().st_size / 3
    state = safetensors.torch.load_file(study / "fold0" / "member.safetensors")
    assert float(state["blocks.0.attn.qkv.lora_b"].abs().max()) > 0  # trained: it starts at 0
    assert {name.rpartition(".")[2] for name in state} == {"lora_a", "lora_b", "weight", "bias"}


@pytest.mark.long
def test_from_three_folds_to_inference(
    study: Path, base: Path, tmp_path: Path, run_inference: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    arguments = ["train", "publish", "--study", str(study), "--threshold-rule", "one_half"]
    assert main([*arguments, "--out", str(tmp_path / "embedded"), "--embed-base"]) == 0
    assert main([*arguments, "--out", str(tmp_path / "named")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "merged"), "--merge-adapters"]) == 0

    embedded = read_bundle(tmp_path / "embedded")
    assert [member.kind for member in embedded.members] == ["adapter"] * 3
    assert (embedded.base.file, embedded.base.licence) == ("base.safetensors", "apache-2.0")
    named = read_bundle(tmp_path / "named")
    assert (named.base.file, named.base.sha256) == (None, hash_file(base))
    assert read_bundle(tmp_path / "merged").base is None

    crops = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    loaded = Classifier.load(tmp_path / "embedded", device="cpu", precision="fp32")
    assert all(isinstance(member, SharedMember) for member in loaded.members)
    p_members = loaded.predict_members(crops)
    for folder, given in (("named", base), ("merged", None)):
        other = Classifier.load(tmp_path / folder, device="cpu", precision="fp32", base=given).predict_members(crops)
        np.testing.assert_allclose(other, p_members, rtol=0, atol=5e-3)  # the stored base is rounded to fp16

    weights = ("--input", ROOT / "test/input/interf0", "--device", "cpu", "--weights")
    refused = run_inference(*weights, tmp_path / "named", "--output", tmp_path / "none")
    assert refused.returncode != 0
    assert "the bundle lacks its base timm/test_vit" in refused.stderr.splitlines()[-1]
    wrong = tmp_path / "wrong.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, wrong)
    with pytest.raises(WeightsError, match="no file with its hash in '.*wrong.safetensors'"):
        Classifier.load(tmp_path / "named", device="cpu", base=wrong)


def test_the_whole_path(
    study: Path, base: Path, data_folder: Path, tmp_path: Path, run_inference: Callable[..., Any], capsys: Any
) -> None:
    """Embed, probe, LoRA on three folds (the fixture), evaluate, scale, publish with one base, inference.py."""
    given, shared = ["--data", data_folder, "--hold-out", "source=other"], ["--base", base, "--embed-base"]
    embeddings, probe, lora = tmp_path / "embeddings", tmp_path / "probe", tmp_path / "lora"
    moved, wrong = tmp_path / "moved.safetensors", tmp_path / "wrong.safetensors"
    moved.write_bytes(base.read_bytes())
    safetensors.torch.save_file({"x": torch.zeros(2)}, wrong)
    evaluate = ["evaluate", "--study", study, "--out", tmp_path / "results", "--base"]
    for command in (
        ["embed", "--data", data_folder, "--network", "test_vit", "--base", base, "--set", "size_px=48",
         "--out", embeddings],
        ["probe", *given, "--embeddings", embeddings, "--set", "c=0.01", "--out", tmp_path / "p",
         "--publish", probe, *shared],
        ["scale", *given, "--embeddings", embeddings, "--method", "probe-uni", "--fractions", ".5", "1", "--seeds", "1",
         "--out", tmp_path / "scale"],
        [*evaluate, moved],
        ["publish", "--study", study, "--out", lora, *shared],
    ):  # fmt: skip
        assert main(["train", *map(str, command)]) == 0, capsys.readouterr().err
    assert "at least 98% of that with all" in (tmp_path / "scale" / "tables.md").read_text()
    assert "| lora | held out: source=other | 10 (2) |" in (tmp_path / "results" / "tables.md").read_text()
    capsys.readouterr()
    assert main(["train", *map(str, [*evaluate, wrong])]) == 1
    assert "is an adapter of another base" in capsys.readouterr().err
    for bundle, count in ((probe, 5), (lora, 3)):
        assert (len(read_bundle(bundle).members), len(list(bundle.glob("*.safetensors")))) == (count, count + 1)
        card = " ".join((bundle / "README.md").read_text().split())
        assert "Licence of the adapters: MIT. Licence of their base " in card
        assert "which this bundle holds: apache-2.0." in card
        given = ["--input", ROOT / "test/input/interf0", "--device", "cpu", "--weights", bundle]
        done = run_inference(*given, "--output", tmp_path / f"out{count}")
        assert done.returncode == 0, done.stderr
        assert len(json.loads((tmp_path / f"out{count}" / OUTPUT_NAME).read_text())) == 16


def test_what_a_bundle_is_refused_for(
    study: Path, base: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_study(study, data_folder)
    with pytest.raises(DataError, match="expected adapters on a base, and one of the two"):
        publish(read, tmp_path / "out", "one_half", embed_base=True, merge=True)
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, other)
    with pytest.raises(DataError, match=r"member.safetensors is an adapter of another base: got .*other.safetensors"):
        find_base(read, other)
    pickled = tmp_path / "pytorch_model.bin"
    torch.save(safetensors.torch.load_file(base), pickled)
    with pytest.raises(WeightsError, match=r"cannot be read by inference.*mitoscope train base test_vit"):
        publish(read, tmp_path / "out", "one_half", base=pickled)
    guarded = Foundation("nobody/secret", "test_vit", 0, 64, "cc-by-nc-nd-4.0")
    monkeypatch.setitem(FOUNDATION, "test_vit", guarded)
    for how in ({"embed_base": True}, {"merge": True}):
        with pytest.raises(WeightsError, match=r"may not hold the weights of nobody/secret: got the licence cc-by-nc"):
            publish(read, tmp_path / "out", "one_half", **how)
    assert not (tmp_path / "out").exists()


def test_a_frozen_backbone_is_published_too(base: Path, data_folder: Path, tmp_path: Path) -> None:
    settings = ("architecture=test_vit", "method=frozen", "input.size_px=48", "epochs=1", f"init={base}")
    run_study(data_folder, tmp_path / "frozen", Recipe("smoke", settings, 1), ["source=other"], fit_here)
    publish(read_study(tmp_path / "frozen"), tmp_path / "bundle", "one_half", embed_base=True)
    state = safetensors.torch.load_file(tmp_path / "bundle" / "fold0.safetensors")
    assert state.keys() == {"head.weight", "head.bias"}
    table = pd.read_csv(tmp_path / "frozen" / "fold0" / "validation.csv")
    assert table["p_atypical"].between(0, 1).all()


def test_a_whole_network_from_a_guarded_base_is_published_with_a_warning(
    base: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FOUNDATION, "test_vit", Foundation("nobody/secret", "test_vit", 0, 64, "cc-by-nc-nd-4.0"))
    settings = ("architecture=test_vit", "input.size_px=48", "epochs=1", f"init={base}")
    run_study(data_folder, tmp_path / "full", Recipe("smoke", settings, 1), ["source=other"], fit_here)
    publish(read_study(tmp_path / "full"), tmp_path / "bundle", "one_half")
    assert "bundle was trained from nobody/secret, whose licence cc-by-nc-nd-4.0 may forbid" in capsys.readouterr().out
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "- Licence of these weights: that of nobody/secret, from which they were trained: cc-by-nc-nd-4.0." in card


def test_the_command_writes_a_base(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled = tmp_path / "pytorch_model.bin"
    torch.save(safetensors.torch.load_file(base), pickled)
    out = tmp_path / "test_vit.safetensors"
    assert main(["train", "base", "test_vit", "--base", str(pickled), "--out", str(out)]) == 0
    assert f"licence apache-2.0, sha256 {hash_file(out)}" in capsys.readouterr().out
    assert hash_file(out) == hash_file(base)
