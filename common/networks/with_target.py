"""Bind a target domain to a multi-domain generator: what is exported and what an inferer runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

_TOLERANCE = 1e-6  # of the sum of a blend's weights


class WithTarget(nn.Module):
    """A multi-domain generator as a network of one tensor, which MONAI's inferers and exports take.

    Its state dict is the generator's: `model.pt` fits both, whatever target is bound.

    Args:
        network: called with the image `(B, C, H, W)` and the target `(1, num_domains)`.
        target: one weight a domain, as `target_weights` gives them.

    Raises:
        ValueError: when `target` is no vector; its length is for the network to check.

    Example:
        >>> from common.networks import StarGANGenerator
        >>> generator = StarGANGenerator(3, channels=4, num_res_blocks=1)
        >>> network = WithTarget(generator, target_weights(["B30f", "B50f", "B70f"], "B70f"))
        >>> network(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, network: nn.Module, target: Sequence[float] | torch.Tensor) -> None:
        super().__init__()
        weights = torch.as_tensor(target, dtype=torch.float32).detach().clone()
        if weights.dim() != 1 or weights.numel() == 0:
            raise ValueError(
                f"`target` must hold one weight a domain, shape (num_domains,), got the shape {list(weights.shape)}: "
                "bind one target, which counts for each image of a batch."
            )
        self.network = network
        self.target: torch.Tensor
        self.register_buffer("target", weights, persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W)` in [-1, 1] to the bound target."""
        return self.network(image, self.target[None])

    def from_source(self, source: Sequence[float], spacing_mm: float) -> WithTarget:
        """The same generator and target, for images of a known source kernel and pixel size (`PhysicsGenerator`)."""
        condition = torch.tensor([*source, spacing_mm], dtype=self.target.dtype, device=self.target.device)
        return WithTarget(self.network, torch.cat([self.target, condition]))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The generator's."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Into the generator."""
        return self.network.load_state_dict(*args, **kwargs)


def target_weights(domains: Sequence[str], target: str | Mapping[str, float]) -> list[float]:
    """The target vector of a domain, or of a blend of domains.

    Args:
        domains: the names, in the order of the network's target vector.
        target: one of the names, or the weight of each domain that takes part, >= 0, which sum to 1.

    Returns:
        one weight a domain.

    Raises:
        ValueError: when a name is not among `domains`, a weight is negative, or their sum is not 1.

    Example:
        >>> target_weights(["B30f", "B50f", "B70f"], "B70f")
        [0.0, 0.0, 1.0]
        >>> target_weights(["B30f", "B50f", "B70f"], {"B30f": 0.5, "B70f": 0.5})
        [0.5, 0.0, 0.5]
    """
    blend = {target: 1.0} if isinstance(target, str) else dict(target)
    for name, weight in blend.items():
        if name not in domains:
            near = difflib.get_close_matches(str(name), domains, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"`target` must name one of the domains {', '.join(domains)}, got {name!r}.{hint}")
        if not weight >= 0:
            raise ValueError(f"`target` must give each domain a weight >= 0, got {weight} for {name!r}.")
    total = sum(blend.values())
    if not abs(total - 1.0) <= _TOLERANCE:
        raise ValueError(f"the weights of `target` must sum to 1, got {blend}, whose sum is {total:g}.")
    return [float(blend.get(name, 0.0)) for name in domains]
