"""Binding a target domain to a multi-domain generator, which is then exported and run by inferers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn

_TOLERANCE = 1e-6  # tolerance of the sum of a blend's weights


class WithTarget(nn.Module):
    """Multi-domain generator as a network of one tensor, which MONAI's inferers and exports accept.

    Its state dict is the generator's: `model.pt` fits both, whatever target is bound.

    A generator of one direction has a single target: its weights are `[1.0]`, and it is called with the image alone.

    Args:
        network: Generator, called with the image `(B, C, H, W)` and the target `(1, num_domains)`.
        target: One weight per domain, as `target_weights` returns them.
        source: Source kernel and pixel size of the images, for a generator that depends on them, as `source_label`
            returns them; `from_source` binds others.

    Raises:
        ValueError: If `target` is not a vector; the network checks its length.

    Example:
        >>> from common.networks import StarGANGenerator
        >>> generator = StarGANGenerator(3, channels=4, num_res_blocks=1)
        >>> network = WithTarget(generator, target_weights(["B30f", "B50f", "B70f"], "B70f"))
        >>> network(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    __constants__ = ("tells_target",)  # TorchScript then compiles only that call which the network takes

    def __init__(
        self, network: nn.Module, target: Sequence[float] | torch.Tensor, source: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        weights = torch.as_tensor(target, dtype=torch.float32).detach().clone()
        if weights.dim() != 1 or weights.numel() == 0:
            raise ValueError(
                f"`target` must hold one weight per domain, shape (num_domains,), got the shape {list(weights.shape)}: "
                "bind one target, which applies to each image of a batch."
            )
        self.network = network
        self.num_weights = weights.numel()
        self.tells_target = self.num_weights > 1
        self.target: torch.Tensor
        self.register_buffer("target", torch.cat([weights, torch.tensor(source or [])]), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W)` in [-1, 1] to the bound target."""
        if self.tells_target:
            return self.network(image, self.target[None])
        return self.network(image)

    def from_source(self, source: Sequence[float], spacing_mm: float) -> WithTarget:
        """Bind the same generator and target to a known source kernel and pixel size (`PhysicsGenerator`)."""
        bound = WithTarget(self.network, self.target[: self.num_weights], [*source, spacing_mm])
        return bound.to(self.target)  # to the device and the precision of this one

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state of the generator."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load a state into the generator."""
        return self.network.load_state_dict(*args, **kwargs)


def target_weights(
    domains: Sequence[str], target: str | Mapping[str, float], groups: Sequence[int] | None = None
) -> list[float]:
    """Build the target vector of a domain, or of a blend of domains.

    Args:
        domains: Names of the domains, in the order of the network's target vector.
        target: One of the names, or a blend: weights >= 0 by domain that sum to 1.
        groups: Number of domains of each vendor, for a network that was trained with the vendors' mask
            (`common.methods.DomainLabels`); default: one vendor, no mask.

    Returns:
        One weight per domain; with several vendors followed by the one-hot mask of the target's vendor.

    Raises:
        ValueError: If `target` is neither a name nor a blend, a name is not among `domains`, a weight is negative,
            the sum is not 1, a blend mixes vendors, `groups` does not sum to the number of domains, or the only
            domain is not the requested one.

    Example:
        >>> target_weights(["B30f", "B50f", "B70f"], "B70f")
        [0.0, 0.0, 1.0]
        >>> target_weights(["B30f", "B50f", "B70f"], {"B30f": 0.5, "B70f": 0.5})
        [0.5, 0.0, 0.5]
        >>> target_weights(["B30f"], "B30f")  # of a network of one direction
        [1.0]
        >>> target_weights(["B30f", "B70f", "SOFT"], "SOFT", groups=[2, 1])
        [0.0, 0.0, 1.0, 0.0, 1.0]
    """
    if len(domains) == 1 and target not in (domains[0], {domains[0]: 1.0}):
        raise ValueError(
            f"`target` must be {domains[0]!r}, the only domain that this network translates into, got {target!r}: "
            "train it for that direction, or take a network of several domains."
        )
    vendors = vendors_of(domains, groups)
    example = f"{{{vendors[0][0]}: 0.5, {vendors[0][-1]}: 0.5}}"
    if not isinstance(target, (str, Mapping)):
        raise ValueError(
            f"`target` must be one of the domains {', '.join(domains)}, or a blend such as {example}, got {target!r}."
        )
    blend = {target: 1.0} if isinstance(target, str) else dict(target)
    for name, weight in blend.items():
        if name not in domains:
            near = difflib.get_close_matches(str(name), domains, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"`target` must name one of the domains {', '.join(domains)}, got {name!r}.{hint}")
        if not (isinstance(weight, (int, float)) and weight >= 0):
            raise ValueError(f"`target` must give each domain a weight >= 0, got {weight!r} for {name!r}.")
    total = sum(blend.values())
    if not abs(total - 1.0) <= _TOLERANCE:
        raise ValueError(f"the weights of `target` must sum to 1, got {blend}, whose sum is {total:g}. E.g. {example}.")
    weights = [float(blend.get(name, 0.0)) for name in domains]
    if len(vendors) == 1:
        return weights
    mask = [float(any(blend.get(name, 0.0) > 0 for name in vendor)) for vendor in vendors]
    if sum(mask) > 1:
        raise ValueError(f"a blend must be of the kernels of one vendor, got {blend} of the vendors {vendors}.")
    return weights + mask


def source_label(
    definition: Mapping[str, Any],
    target: str | Mapping[str, float],
    source: str | None = None,
    pixel_mm: float | None = None,
) -> list[float] | None:
    """Return the source kernel and pixel size a network assumes where no volume provides them, as in an export.

    Args:
        definition: Definition of the network, as `read_definition` returns it.
        target: One of its domains, or a blend.
        source: One of its domains; by default the first one that is not the target.
        pixel_mm: Pixel size; by default the middle of the training data's range.

    Returns:
        One weight per domain, followed by the pixel size; None for a generator that sees only the image.

    Raises:
        ValueError: If `source` is not one of the domains.

    Example:
        >>> physics = {"class": "PhysicsGenerator", "domains": ["soft", "sharp"], "spacing_mm": [0.5, 0.7]}
        >>> source_label(physics, "soft")
        [0.0, 1.0, 0.6]
    """
    domains = list(definition["domains"])
    if source is not None and source not in domains:
        raise ValueError(f"`source` must be one of the trained kernels {domains}, got {source!r}.")
    if not str(definition["class"]).endswith("PhysicsGenerator"):
        return None
    others = [domain for domain in domains if domain != target]
    smallest, largest = definition["spacing_mm"]
    return [*target_weights(domains, source or others[0]), pixel_mm or (smallest + largest) / 2]


def vendors_of(domains: Sequence[str], groups: Sequence[int] | None = None) -> list[list[str]]:
    """Group the domains by vendor, in order; without `groups` all are in one list.

    Raises:
        ValueError: If `groups` does not sum to the number of domains.

    Example:
        >>> vendors_of(["B30f", "B70f", "SOFT"], [2, 1])
        [['B30f', 'B70f'], ['SOFT']]
    """
    sizes = list(groups or [len(domains)])
    if sum(sizes) != len(domains):
        raise ValueError(
            f"`groups` must say how many of the {len(domains)} domains each vendor has, got {sizes}, which sum to "
            f"{sum(sizes)}."
        )
    rest = iter(domains)
    return [list(islice(rest, size)) for size in sizes]
