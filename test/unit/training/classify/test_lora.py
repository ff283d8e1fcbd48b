from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Base, Bundle, Member, Threshold
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.preprocess import preprocess
from mitoscope.errors import DataError, WeightsError
from mitoscope.networks.build import build_network
from mitoscope.networks.lora import merge_adapter
from mitoscope.networks.shared import SharedMember
from mitoscope.training.classify.adapters.average import TrainedAverage
from mitoscope.training.classify.adapters.lora import choose_trained, keep_statistics, read_adapter
from mitoscope.training.classify.module import FoldModule
from mitoscope.training.classify.settings import LORA_PRESETS, ClassifySettings, LoraSettings
from mitoscope.training.presets import configure, override
from mitoscope.training.settings import FitConfig

CPU = torch.device("cpu")
QKV_R8 = {"virchow": 1.31, "virchow2": 1.31, "uni": 0.79, "uni2-h": 1.18, "h-optimus-0": 1.97, "h-optimus-1": 1.97,
          "prov-gigapath": 1.97}  # fmt: skip


def count_trained(architecture: str, size_px: int, lora: LoraSettings) -> int:
    """Parameters that LoRA trains, without the last layer."""
    with torch.device("meta"):
        network = build_network(architecture, size_px)
        choose_trained(network, ClassifySettings(method="lora", lora=lora))
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return trained - sum(parameter.numel() for parameter in network.get_classifier().parameters())


@pytest.mark.parametrize("name", QKV_R8)
def test_rank_8_on_qkv_trains_the_published_number_of_parameters(name: str) -> None:
    assert round(count_trained(name, 224, LoraSettings(8, modules="qkv")) / 1e6, 2) == QKV_R8[name]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("virchow-lora-r8", 32 * 8 * (1280 + 3840)),
        # proj, and SwiGLU's fc1 to twice the hidden width of 3416
        ("benchmark-lora-r8", 32 * 8 * (1280 + 3840 + 1280 + 1280 + 1280 + 6832 + 3416 + 1280)),
        ("lora-r16", 32 * 16 * (1280 + 3840 + 1280 + 1280 + 1280 + 6832 + 3416 + 1280)),
        ("dinov3-lora-r4", 32 * 4 * 2 * (1280 + 1280)),  # the winner's 650k
    ],
)
def test_the_presets_train_what_was_published(preset: str, expected: int) -> None:
    config = LORA_PRESETS[preset]
    assert count_trained(config.architecture, config.part.input.size_px, config.part.lora) == expected


def shaken(network: nn.Module) -> nn.Module:
    """The network with random factors: peft's B starts at 0."""
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


CASES = [
    ("test_vit", "qkv"), ("test_vit", "qkv,proj,fc1,fc2"), ("test_vit", "q,v"), ("test_vit2", "k"),
    ("vit_small_patch16_dinov3", "q,v"), ("vit_small_plus_patch16_dinov3", "qkv,fc1"),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "modules"), CASES)
def test_a_bundle_of_adapters_answers_as_peft_does(architecture: str, modules: str, stack: np.ndarray) -> None:
    torch.manual_seed(0)
    spec = InputSpec(size_px=32)
    base = build_network(architecture, 32).state_dict()
    for name, tensor in base.items():  # as initialised, attention hardly moves an answer
        base[name] = torch.ones_like(tensor) if "gamma" in name else tensor * (4 if ".attn." in name else 1)
    images = preprocess(stack[:3], spec)
    expected, adapters = [], []
    for rank in (2, 3):
        network = build_network(architecture, 32)
        network.load_state_dict(base)
        choose_trained(network, ClassifySettings(method="lora", lora=LoraSettings(rank, 8.0, 0.1, modules)))
        nn.init.normal_(network.get_classifier().weight, std=0.05)
        shaken(network)
        with torch.no_grad():
            expected.append(network(images).squeeze(1).double().sigmoid().numpy())
        adapters.append(read_adapter(network))
    members = tuple(Member(f"fold{k}.safetensors", "", "adapter", orientations=()) for k in range(2))
    bundle = Bundle(Path(), "tiny", architecture, spec, Threshold(0.5, "fixed", "nothing", 0), members,
                    base=Base("", "MIT", "base.safetensors"))  # fmt: skip
    classifier = Classifier.of(bundle, iter(adapters), CPU, "fp32", base)
    assert all(isinstance(member, SharedMember) for member in classifier.members)
    got = classifier.predict_members(stack[:3])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert np.abs(got[0] - got[1]).max() > 1e-4
    whole = [merge_adapter(base, adapter, "fold") for adapter in adapters]
    full = replace(bundle, base=None, members=tuple(replace(member, kind="full") for member in members))
    merged = Classifier.of(full, iter(whole), CPU, "fp32").predict_members(stack[:3])
    np.testing.assert_allclose(merged, expected, rtol=0, atol=1e-5)
    heads = [{**base, **{k: v for k, v in one.items() if "lora" not in k}} for one in adapters]
    without = Classifier.of(full, iter(heads), CPU, "fp32").predict_members(stack[:3])
    assert np.abs(without - got).max() > 1e-4  # the factors matter


CONVOLUTIONS = [
    ("tf_efficientnet_lite0", ClassifySettings(method="lora", lora=LoraSettings(2, 8.0, 0.1, "conv_pw"))),
    ("tf_efficientnet_lite0", ClassifySettings(method="frozen", last_blocks=2)),
    ("efficientvit_b0", ClassifySettings(method="frozen", last_blocks=1)),
    ("test_vit", ClassifySettings(method="frozen", last_blocks=1)),
]


@pytest.mark.parametrize(("architecture", "settings"), CONVOLUTIONS)
def test_convolutions_and_last_blocks_are_trained_and_run(
    architecture: str, settings: ClassifySettings, stack: np.ndarray
) -> None:
    torch.manual_seed(0)
    spec = InputSpec(size_px=64)
    network = build_network(architecture, 64)
    base = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    base["mask_token"] = torch.ones(1, 64)  # published files of DINOv2 hold one
    choose_trained(network, settings)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1 if "lora_B" in name else 0.05)
    adapter = read_adapter(network.eval())
    assert adapter.keys() < base.keys() or settings.method == "lora"
    members = (Member("fold0.safetensors", "", "adapter"),)
    bundle = Bundle(Path(), "tiny", architecture, spec, Threshold(0.5, "fixed", "nothing", 0), members,
                    base=Base("", "MIT", "base.safetensors"))  # fmt: skip
    with torch.no_grad():
        expected = network(preprocess(stack[:3], spec)).T.double().sigmoid().numpy()
    got = Classifier.of(bundle, iter([adapter]), CPU, "fp32", base).predict_members(stack[:3])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    head = {name: tensor for name, tensor in adapter.items() if name.startswith(("classifier.", "head."))}
    without = Classifier.of(bundle, iter([head]), CPU, "fp32", base).predict_members(stack[:3])
    assert np.abs(without - got).max() > 1e-4  # what is below the last layer matters


def test_more_blocks_than_there_are_is_one_line() -> None:
    with pytest.raises(DataError, match="EfficientNet has no 8 last blocks: got 7 blocks, expected 8 or more"):
        choose_trained(build_network("tf_efficientnet_lite0", 64), ClassifySettings(method="frozen", last_blocks=8))
    with pytest.raises(DataError, match="the setting last_blocks is out of range"):
        ClassifySettings(last_blocks=1)


def test_members_share_the_base_and_its_patches(stack: np.ndarray) -> None:
    torch.manual_seed(0)
    base = build_network("test_vit", 64).state_dict()
    adapters = []
    for _ in range(3):
        network = build_network("test_vit", 64)
        choose_trained(network, ClassifySettings(method="frozen"))
        adapters.append(read_adapter(network))
    members = tuple(Member(f"fold{k}.safetensors", "", "adapter", orientations=(k % 2,)) for k in range(3))
    bundle = Bundle(Path(), "tiny", "test_vit", InputSpec(size_px=64), Threshold(0.5, "fixed", "nothing", 0), members,
                    base=Base("", "MIT", "base.safetensors"))  # fmt: skip
    classifier = Classifier.of(bundle, iter(adapters), CPU, "fp32", base)
    (network,) = {id(member.shared.network): member.shared.network for member in classifier.members}.values()
    weight = network.get_submodule("blocks.0.attn.qkv").weight
    assert weight.data_ptr() == base["blocks.0.attn.qkv.weight"].data_ptr()
    calls = []
    once = network.patch_embed.forward
    compute, once.function = once.function, lambda images: (calls.append(len(images)), compute(images))[1]
    classifier.predict_members(stack[:4])
    assert calls == [4, 4]  # two orientations, three members
    assert once.result is None  # nothing is kept


def test_adapters_and_bases_of_other_networks_are_one_line_each(stack: np.ndarray) -> None:
    def adapter_of(architecture: str) -> dict[str, torch.Tensor]:
        network = build_network(architecture, 32)
        choose_trained(network, ClassifySettings(method="lora", lora=LoraSettings(2)))
        return read_adapter(network)

    def load(architecture: str, adapter: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> None:
        members, threshold = (Member("fold0.safetensors", "", "adapter"),), Threshold(0.5, "fixed", "nothing", 0)
        bundle = Bundle(Path(), "tiny", architecture, InputSpec(size_px=32), threshold, members,
                        base=Base("", "MIT", "base.safetensors"))  # fmt: skip
        Classifier.of(bundle, iter([adapter]), CPU, "fp32", base)

    base = build_network("test_vit", 32).state_dict()
    with pytest.raises(
        WeightsError, match=r"fold0.safetensors is an adapter of another base: got blocks.*lora_[ab] of "
    ):
        load("test_vit", adapter_of("vit_small_patch16_224"), base)
    wide = {
        name: torch.zeros(1, 65) if name == "head.weight" else tensor for name, tensor in adapter_of("test_vit").items()
    }
    with pytest.raises(
        WeightsError, match=r"fold0.safetensors is an adapter of another base: got head.weight of shape"
    ):
        load("test_vit", wide, base)
    lacking = {name: tensor for name, tensor in base.items() if name != "pos_embed"}
    with pytest.raises(WeightsError, match="the base is of another architecture: got no tensor pos_embed"):
        load("test_vit", adapter_of("test_vit"), lacking)


def test_layers_whose_weight_is_used_directly_are_refused() -> None:
    with pytest.raises(DataError, match=r"Eva cannot be adapted at qkv: got an attention that uses the weight"):
        count_trained("vit_small_patch16_dinov3_qkvb", 32, LoraSettings(2))
    with pytest.raises(DataError, match=r"cannot be adapted at qkv: got .*choose other --set lora.modules"):
        count_trained("tf_efficientnet_lite0", 32, LoraSettings(2))


@pytest.mark.parametrize(
    "setting",
    ["lora.rank=0", "lora.alpha=0.0", "lora.dropout=1.0", "lora.modules=qkv,q", "lora.modules=all", "method=none"],
)
def test_settings_out_of_range_are_one_line(setting: str) -> None:
    with pytest.raises(
        DataError, match=r"(rank|alpha|dropout|modules|method) is out of range: got .* a value that fits: \w"
    ):
        override(FitConfig(ClassifySettings()), [setting])


def test_the_new_settings_change_no_hash_of_earlier_runs() -> None:
    recorded = FitConfig(ClassifySettings())
    named = override(recorded, ["method=full", "lora.rank=8", "draws=0"])
    assert recorded.sha256 == named.sha256 != override(recorded, ["method=frozen"]).sha256


def test_a_frozen_backbone_needs_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="method lora needs published weights"):
        configure("smoke", ["method=lora"])
    file = tmp_path / "uni.safetensors"
    file.write_bytes(b"")
    assert configure("virchow-lora-r8", ["architecture=h-optimus-0", f"init={file}"]).part.input.mean[0] == 0.707223


@pytest.mark.parametrize("method", ["frozen", "lora"])
def test_only_what_is_trained_is_optimised_kept_and_averaged(method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "base.safetensors"
    safetensors.torch.save_file(build_network("test_vit", 64).state_dict(), file)
    part = ClassifySettings(input=InputSpec(size_px=64), method=method, lora=LoraSettings(2))
    config = FitConfig(part, architecture="test_vit", init=str(file))
    module = FoldModule(config, total_steps=10, seed=0)
    groups = module.configure_optimizers()["optimizer"].param_groups
    trained = sum(parameter.numel() for group in groups for parameter in group["params"])
    blocks = 2 * (64 + 192) * len(module.network.blocks) if method == "lora" else 0
    assert trained == blocks + 65 + 64 * 8 + 8  # the factors, the last layer, the auxiliary head
    state = module.state_dict()
    assert not any("blocks.0.mlp" in name or name.endswith("qkv.base_layer.weight") for name in state)
    for parameter in module.network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    module.ema.update(module.network, 1)
    saved = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    again = FoldModule(config, total_steps=10, seed=0)
    again.load_state_dict(saved)
    left, right = module.published_state(), again.published_state()
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    del saved["network.head.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*network.head.weight"):
        again.load_state_dict(saved)
    assert module.metadata().keys() == {"base_sha256"}


def test_the_average_is_timm_s_and_shares_what_is_frozen() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    network[0].requires_grad_(False)
    ours, timms = TrainedAverage(network, 0.5), ModelEmaV3(network, decay=0.5, use_warmup=True)
    assert ours.module[0].weight is network[0].weight
    for step in range(1, 6):
        nn.init.normal_(network[1].weight)
        ours.update(network, step)
        timms.update(network, step=step)
        torch.testing.assert_close(ours.module[1].weight, timms.module[1].weight)


def test_the_statistics_of_a_frozen_backbone_stay() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()).train()
    keep_statistics(network, "lora")
    assert [module.training for module in network] == [False, True]
    keep_statistics(network.train(), "full")
    assert network[0].training
