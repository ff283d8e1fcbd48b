import pytest
import torch

from mitoscope.networks.build import build_network, embed
from mitoscope.networks.foundation import FOUNDATION, Foundation, is_dinov3, may_be_passed_on

PUBLISHED_M = {"virchow": 631.2, "virchow2": 631.2, "uni": 303.4, "uni2-h": 681.4, "h-optimus-0": 1134.8,
               "h-optimus-1": 1134.8, "prov-gigapath": 1135.0, "vit_huge_plus_patch16_dinov3": 840.5}  # fmt: skip


@pytest.mark.parametrize("name", FOUNDATION)
def test_every_network_has_its_size_and_its_embedding(name: str) -> None:
    known = FOUNDATION[name]
    with torch.device("meta"):
        network = build_network(name, known.size_px)
        embeddings = embed(network, torch.zeros(2, 3, known.size_px, known.size_px))
        logits = network(torch.zeros(2, 3, known.size_px, known.size_px))
    head = sum(parameter.numel() for parameter in network.get_classifier().parameters())
    n_parameters = sum(parameter.numel() for parameter in network.parameters()) - head
    assert (n_parameters, embeddings.shape, logits.shape) == (known.n_parameters, (2, known.dimension), (2, 1))
    assert head == known.dimension + 1


@pytest.mark.parametrize("name", PUBLISHED_M)
def test_the_sizes_are_the_published_ones(name: str) -> None:
    assert round(FOUNDATION[name].n_parameters / 1e6, 1) == PUBLISHED_M[name]


def test_licences() -> None:
    free = {name for name, known in FOUNDATION.items() if may_be_passed_on(known.licence)}
    assert free == {"virchow", "h-optimus-0"}
    assert may_be_passed_on("MIT") and not may_be_passed_on("unknown")


@pytest.mark.parametrize(("n_registers", "patch_mean"), [(0, True), (4, True), (4, False)])
def test_registers_are_not_part_of_an_embedding(
    monkeypatch: pytest.MonkeyPatch, n_registers: int, patch_mean: bool
) -> None:
    arguments = {"reg_tokens": n_registers, "global_pool": "" if patch_mean else "token"}
    dimension = 128 if patch_mean else 64
    tiny = Foundation("nobody/tiny", "test_vit", 0, dimension, "mit", arguments, patch_mean=patch_mean)
    monkeypatch.setitem(FOUNDATION, "tiny", tiny)
    torch.manual_seed(0)
    network = build_network("tiny", 64).eval()
    tokens = network.forward_features(torch.randn(2, 3, 64, 64))
    assert tokens.shape == (2, 1 + n_registers + 16, 64)
    expected = tokens[:, 0]
    if patch_mean:
        expected = torch.cat([expected, tokens[:, 1 + n_registers :].mean(dim=1)], dim=1)
    changed = tokens.clone()
    changed[:, 1 : 1 + n_registers] += 1
    for given in (tokens, changed):
        torch.testing.assert_close(network.forward_head(given, pre_logits=True), expected)
    patches = tokens.clone()
    patches[:, -1] += 1
    differs = not torch.equal(network.forward_head(patches, pre_logits=True), expected)
    assert differs == patch_mean


def test_dinov3_is_known_by_timm_s_names() -> None:
    assert is_dinov3("vit_huge_plus_patch16_dinov3") and is_dinov3("vit_small_patch16_dinov3_qkvb.lvd1689m")
    assert not is_dinov3("vit_large_patch16_224") and not is_dinov3("convnext_tiny.dinov3_lvd1689m")
    with torch.device("meta"):  # a name that the registry lacks: the class token all the same
        network = build_network("vit_small_patch16_dinov3_qkvb", 64)
    assert network.global_pool == "token"
