"""Blends of kernels: what they are scored against, and what a blend of several outputs is worth beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.data import MetaTensor

from ..networks import target_weights, vendors_of
from .evaluator import NETWORK
from .translator import Translator

BLEND_OF_OUTPUTS = "blend_of_outputs"
Weights = Mapping[str, float]


def half_blends(domains: Sequence[str], groups: Sequence[int] | None = None) -> list[dict[str, float]]:
    """
    Half of each vendor's first and half of its last kernel, where there is a third one to convert from.

    Args:
        domains: names of the kernels.
        groups: number of kernels of each vendor; default: one vendor.

    Example:
        >>> half_blends(["B30f", "B50f", "B70f"])
        [{'B30f': 0.5, 'B70f': 0.5}]
    """
    return [{vendor[0]: 0.5, vendor[-1]: 0.5} for vendor in vendors_of(domains, groups) if len(vendor) > 2]


def blend_directions(
    domains: Sequence[str], blends: Sequence[Weights], groups: Sequence[int] | None = None
) -> list[tuple[str, dict[str, float]]]:
    """
    From which kernels each blend is made: those of its vendor that are no part of it, or all, where there is none.

    Args:
        domains: names of the kernels.
        blends: the weight of each kernel that takes part; they sum to 1.
        groups: number of kernels of each vendor; default: one vendor.

    Raises:
        ValueError: as `common.networks.target_weights`.

    Example:
        >>> blend_directions(["B30f", "B50f", "B70f"], [{"B30f": 0.5, "B70f": 0.5}])
        [('B50f', {'B30f': 0.5, 'B70f': 0.5})]
    """
    directions = []
    for blend in blends:
        target_weights(domains, blend, groups)
        parts = {domain: weight for domain, weight in blend.items() if weight > 0}
        (vendor,) = [vendor for vendor in vendors_of(domains, groups) if set(parts) <= set(vendor)]
        sources = [domain for domain in vendor if domain not in parts] or vendor
        directions += [(source, parts) for source in sources]
    return directions


def blend_volumes(volume_of: Callable[[str], MetaTensor], weights: Weights) -> MetaTensor:
    """
    The weighted sum of volumes (C, X, Y, Z) on one grid: reconstruction is linear in the kernel.

    Args:
        volume_of: from a domain to its volume.
        weights: of each domain.
    """
    parts = {domain: volume_of(domain) for domain in weights}
    first = next(iter(parts.values()))
    total = sum(weights[domain] * part.as_tensor() for domain, part in parts.items())
    return MetaTensor(total, meta=dict(first.meta))


class Remembering:
    """
    A translator that keeps its outputs for one volume: a blend of them then costs no second translation.

    Args:
        translate: whose outputs for single domains are kept until another volume comes.
    """

    def __init__(self, translate: Translator) -> None:
        self.translate: Callable[..., MetaTensor] = translate
        self.volume: MetaTensor | None = None
        self.outputs: dict[str, MetaTensor] = {}

    def __call__(self, volume: MetaTensor, target: str | Weights) -> MetaTensor:
        if not isinstance(target, str):
            return self.translate(volume, target)
        if volume is not self.volume:
            self.volume, self.outputs = volume, {}
        if target not in self.outputs:
            self.outputs[target] = self.translate(volume, target)
        return self.outputs[target]


class BlendedOutputs:
    """
    For a blend of kernels, the same blend of a translator's outputs for each of them, in whole HU as it would be saved.

    Args:
        translate: called once for each kernel that takes part.
    """

    def __init__(self, translate: Callable[..., MetaTensor]) -> None:
        self.translate = translate

    def __call__(self, volume: MetaTensor, target: Any) -> MetaTensor:
        blend = blend_volumes(lambda domain: self.translate(volume, domain), target)
        return MetaTensor(blend.as_tensor().round(), meta=blend.meta)


def blend_translators(translators: Mapping[str, Translator]) -> dict[str, Callable[..., MetaTensor]]:
    """The network bound to the blend, beside it the blend of its outputs, and the blends of all others' outputs."""
    blended: dict[str, Callable[..., MetaTensor]] = {}
    for name, translate in translators.items():
        if name == NETWORK:
            blended |= {NETWORK: translate, BLEND_OF_OUTPUTS: BlendedOutputs(translate)}
        else:
            blended[name] = BlendedOutputs(translate)
    return blended
