"""What of a network is trained: all, its last layer or blocks, or low-rank factors by peft and the last layer."""

import re
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from mitoscope.errors import DataError
from mitoscope.networks.lora import A, B, reads_weight
from mitoscope.training.classify.settings import LORA_MODULES, QKV_PARTS, ClassifySettings, LoraSettings

PEFT_NAME = "default"  # of the one adapter that peft holds
PEFT_FACTOR = ".lora_"  # in the names of its tensors


class SplitQKV(nn.Module):
    """A fused layer for queries, keys and values as three layers, so that peft can adapt each alone.

    They use the fused layer's tensors without a copy.

    Args:
        fused: in → 3 × out.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = fused.in_features, fused.out_features
        size = fused.out_features // 3
        for number, part in enumerate(QKV_PARTS):
            with torch.device("meta"):
                layer = nn.Linear(fused.in_features, size, bias=fused.bias is not None)
            rows = slice(number * size, (number + 1) * size)
            layer.weight = nn.Parameter(fused.weight.detach()[rows], requires_grad=False)
            if fused.bias is not None:
                layer.bias = nn.Parameter(fused.bias.detach()[rows], requires_grad=False)
            self.add_module(part, layer)

    def forward(self, x: Tensor) -> Tensor:
        """float (…, in) → float (…, 3 × out)."""
        return torch.cat([self.get_submodule(part)(x) for part in QKV_PARTS], dim=-1)


def choose_trained(network: nn.Module, settings: ClassifySettings) -> None:
    """Freeze what is not trained, and add the factors that are.

    Args:
        network: As `mitoscope.networks.build.build_network` gives it, by timm's names; changed in place.
        settings: ``method``, ``lora`` and ``last_blocks``.

    Raises:
        DataError: The network lacks the layers that are to be adapted, or so many blocks.
    """
    if settings.method == "full":
        return
    network.requires_grad_(False)
    if settings.method == "lora":
        _inject(network, settings.lora)
    if settings.last_blocks:
        for module in _last(network, settings.last_blocks):
            module.requires_grad_(True)
    network.get_classifier().requires_grad_(True)  # type: ignore[operator]


def _last(network: nn.Module, count: int) -> list[nn.Module]:
    """The last blocks of a timm network, and all that follows them."""
    parts = list(network.named_children())
    place = next((k for k, (name, _) in enumerate(parts) if name in ("blocks", "stages")), None)
    blocks: list[nn.Module] = [] if place is None else list(parts[place][1].children())
    if place is None or count > len(blocks):
        raise DataError(
            f"{type(network).__name__} has no {count} last blocks",
            got=f"{len(blocks)} blocks",
            expected=f"{count} or more",
            remedy="choose a smaller --set last_blocks=…, or another architecture",
        )
    return [*blocks[-count:], *(module for _, module in parts[place + 1 :])]


def keep_statistics(network: nn.Module, method: str) -> None:
    """Keep the batch norms of a frozen backbone as they are; called when an epoch starts."""
    if method != "full":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def read_adapter(network: nn.Module) -> dict[str, Tensor]:
    """What was trained beside the frozen backbone, as a bundle's member.

    Args:
        network: After `choose_trained`, by LoRA or with a frozen backbone.

    Returns:
        Tensors as `mitoscope.networks.lora.split_adapter` reads them, on the CPU: A and B of each adapted layer, the
        scale in B; the last layer; and what else was trained as a whole. The factors of q, k and v alone are those of
        the fused layer, with zeros for the rows that were not adapted.
    """
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    trained = {name: tensor for name, tensor in network.named_parameters() if tensor.requires_grad}
    state = {name: tensor.detach() for name, tensor in trained.items() if PEFT_FACTOR not in name}
    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            layers: Any = module
            a, b = layers.lora_A[PEFT_NAME].weight.detach(), layers.lora_B[PEFT_NAME].weight.detach()
            factors[name] = a.flatten(1), (b * module.scaling[PEFT_NAME]).flatten(1)
    for layer in [name for name, module in network.named_modules() if isinstance(module, SplitQKV)]:
        factors[layer] = _join([factors.pop(f"{layer}.{part}", None) for part in QKV_PARTS])
    for layer, (a, b) in factors.items():
        state |= {layer + A: a, layer + B: b}
    return {name: tensor.contiguous().cpu() for name, tensor in state.items()}


def _join(parts: list[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, Tensor]:
    """The factors of q, k and v as those of the fused layer: A below each other, B on a diagonal of blocks."""
    known = [part for part in parts if part is not None]
    out, rank = known[0][1].shape
    a = torch.cat([part[0] for part in known])
    b = a.new_zeros(len(parts) * out, len(known) * rank)
    column = 0
    for number, part in enumerate(parts):
        if part is not None:
            b[number * out : (number + 1) * out, column : column + rank] = part[1]
            column += rank
    return a, b


def _inject(network: nn.Module, settings: LoraSettings) -> None:
    """Add peft's layers."""
    names = settings.modules.split(",")
    if set(names) & set(QKV_PARTS):
        for name, module in list(network.named_modules()):
            if name.endswith(".attn.qkv") and isinstance(module, nn.Linear):
                network.set_submodule(name, SplitQKV(module))
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft divides it by the rank
        lora_dropout=settings.dropout,
        target_modules="|".join(LORA_MODULES[name] for name in names),
    )
    try:
        inject_adapter_in_model(config, network, PEFT_NAME)
    except ValueError as error:
        raise _cannot(network, settings, str(error)) from error
    adapted = {name for name, module in network.named_modules() if isinstance(module, LoraLayer)}
    for name in names:
        if not any(_matches(layer, name) for layer in adapted):
            raise _cannot(network, settings, f"no layer {name}")
    if any(reads_weight(network.get_submodule(layer.partition(".attn.")[0] + ".attn")) for layer in adapted
           if ".attn.qkv" in layer):  # fmt: skip
        raise _cannot(network, settings, "an attention that uses the weight of qkv and does not call the layer")


def _matches(layer: str, name: str) -> bool:
    """Whether a layer is one of those that a setting names."""
    return re.fullmatch(LORA_MODULES[name], layer) is not None


def _cannot(network: nn.Module, settings: LoraSettings, got: str) -> DataError:
    """The error for a network without such layers."""
    return DataError(
        f"{type(network).__name__} cannot be adapted at {settings.modules}",
        got=got,
        expected=f"layers of the names {settings.modules}",
        remedy="choose other --set lora.modules=…, or another architecture (of DINOv3 one without _qkvb)",
    )
