from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mitoscope.bundle.manifest import Bundle, Rounding
from mitoscope.bundle.read import read_bundle
from mitoscope.errors import DeviceError
from mitoscope.networks.device import choose_device, choose_precision

HARMLESS, HARMFUL = Rounding(400, 0.01, 0.005), Rounding(400, 0.01, 0.006)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ({"fp16": HARMLESS}, "fp16"),
        ({"fp16": HARMFUL}, "fp32"),
        ({"bf16": HARMLESS}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_takes_fp16_on_a_gpu_only_if_it_was_measured_to_be_harmless(
    bundle: Bundle, rounding: dict[str, Rounding], expected: str
) -> None:
    assert choose_precision("auto", CUDA, replace(bundle, rounding=rounding)) == expected


@pytest.mark.parametrize(
    ("architecture", "rounding", "native", "expected"),
    [
        ("efficientvit_l2.r256_in1k", {"bf16": HARMLESS}, True, "bf16"),
        ("efficientvit_l2", {"bf16": HARMFUL}, True, "fp32"),
        ("efficientvit_l2", {"fp16": HARMLESS}, True, "fp32"),
        ("efficientvit_l2", {}, True, "fp32"),
        ("efficientvit_l2", {"bf16": HARMLESS}, False, "fp32"),
        ("efficientvit_b0", {"bf16": HARMLESS}, True, "fp32"),
        ("tf_efficientnet_lite0", {"bf16": HARMLESS}, True, "fp32"),
        ("vit_small_patch16_224", {"bf16": HARMLESS}, True, "fp32"),
    ],
)
def test_auto_takes_bf16_on_a_cpu_if_it_is_faster_and_was_measured_to_be_harmless(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    rounding: dict[str, Rounding],
    native: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    chosen = choose_precision("auto", CPU, replace(bundle, architecture=architecture, rounding=rounding))
    assert chosen == expected


@pytest.mark.parametrize(
    ("architecture", "rounding", "native", "expected"),
    [
        ("tf_efficientnet_lite0", HARMLESS, True, "bf16"),
        ("tf_efficientnet_lite0", HARMFUL, True, "fp32"),
        ("tf_efficientnet_lite0", HARMLESS, False, "fp32"),
        ("efficientvit_l2", HARMLESS, True, "bf16"),
        ("efficientvit_b0", HARMLESS, True, "fp32"),
        ("rtmdet_s", HARMLESS, True, "fp32"),
    ],
)
def test_auto_takes_bf16_for_slides_where_a_small_network_is_faster_in_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, architecture: str, rounding: Rounding, native: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    slides = replace(bundle, architecture=architecture, rounding={"bf16": rounding})
    assert choose_precision("auto", CPU, slides, for_slides=True) == expected


def test_a_named_precision_is_taken(bundle: Bundle) -> None:
    assert choose_precision("fp16", CUDA, bundle) == "fp16"
    assert choose_precision("bf16", CPU, bundle) == "bf16"
    assert choose_precision("fp32", CUDA, replace(bundle, rounding={"fp16": HARMLESS})) == "fp32"


def test_a_device_or_precision_that_this_machine_lacks_is_refused(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="--precision fp16 cannot be used"):
        choose_precision("fp16", CPU, bundle)
    if not torch.cuda.is_available():
        assert choose_device("auto") == CPU
        with pytest.raises(DeviceError, match="--device cuda cannot be used"):
            choose_device("cuda")


def test_bf16_on_a_gpu_older_than_ampere_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(DeviceError, match="--precision bf16 cannot be used"):
        choose_precision("bf16", CUDA, bundle)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert choose_precision("bf16", CUDA, bundle) == "bf16"
