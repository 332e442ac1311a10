"""What a multi-domain generator is told: the vectors that name a target domain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy, one_hot

from ..ranks import draw_for_each, joined, own_part


class DomainLabels:
    """
    Draws targets, writes them as label vectors, and reads the discriminator's domain head accordingly.

    One vendor: the label is one-hot over its kernels (Choi et al., "StarGAN", CVPR 2018, section 3.1). Several vendors:
    one-hot over the kernels of all vendors, followed by a one-hot mask that says whose they are (section 3.2); the
    classification loss then compares kernels of the same vendor only.

    Args:
        num_domains: number of domains, or a list with the number of each vendor.
        permute: take the batch's own domains in another order as targets, as the official code does: at batch 2 and
            three balanced kernels two thirds of the targets are then the source. Default: uniform over all domains.

    Raises:
        ValueError: when a number of domains is below 1, or there is only one domain.

    Example:
        >>> DomainLabels(3)(torch.tensor([2, 0])).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        >>> DomainLabels([2, 1])(torch.tensor([1, 2])).tolist()
        [[0.0, 1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0, 1.0]]
    """

    def __init__(self, num_domains: int | Sequence[int], *, permute: bool = False) -> None:
        self.groups = [num_domains] if isinstance(num_domains, int) else list(num_domains)
        if min(self.groups, default=0) < 1 or sum(self.groups) < 2:
            raise ValueError(f"`num_domains` must be >= 2, or a list of a number >= 1 a vendor, got {num_domains}.")
        self.num_domains = sum(self.groups)
        self.permute = permute

    @property
    def size(self) -> int:
        """Length of a label vector."""
        return self.num_domains + (len(self.groups) if len(self.groups) > 1 else 0)

    def draw(self, domain: torch.Tensor) -> torch.Tensor:
        """A target domain for each of `domain` (B,)."""
        if self.permute:
            together = joined(domain)
            return own_part(together[torch.randperm(len(together)).to(domain.device)])
        drawn = draw_for_each(len(domain), lambda number: torch.randint(self.num_domains, (number,)))
        return drawn.to(domain.device)

    def __call__(
        self, target: torch.Tensor, source: torch.Tensor | None = None, spacing_mm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The label vectors (B, size) of the target domains (B,); the papers' generators are told nothing else."""
        label = one_hot(target, self.num_domains).float()
        if len(self.groups) == 1:
            return label
        return torch.cat([label, one_hot(self._group(target), len(self.groups)).float()], dim=1)

    def classification_loss(self, logits: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the domain head (B, num_domains) among the domains of each sample's own vendor."""
        logits = logits.float()
        if len(self.groups) > 1:
            owner = self._group(torch.arange(self.num_domains, device=domain.device))
            logits = logits.masked_fill(owner[None] != self._group(domain)[:, None], -torch.inf)
        return cross_entropy(logits, domain)

    def _group(self, domain: torch.Tensor) -> torch.Tensor:
        """The vendor of each domain."""
        ends = torch.tensor(self.groups, device=domain.device).cumsum(0)
        return torch.bucketize(domain, ends, right=True)


class ConversionLabels(DomainLabels):
    """
    Labels for a generator that must also know what it converts: target, source, and the pixel size.

    A reconstruction kernel is a function of frequency in lp/mm; what it does to an image of pixels, and what is left to
    do from the kernel that the image has, follows from the three together (`common.networks.PhysicsGenerator`).

    Args:
        num_domains: number of domains.

    Example:
        >>> ConversionLabels(2)(torch.tensor([1]), torch.tensor([0]), torch.tensor([0.5])).tolist()
        [[0.0, 1.0, 1.0, 0.0, 0.5]]
    """

    def __init__(self, num_domains: int) -> None:
        super().__init__(num_domains)

    @property
    def size(self) -> int:
        """Length of a label vector: target, source, and the pixel size in mm."""
        return 2 * self.num_domains + 1

    def __call__(
        self, target: torch.Tensor, source: torch.Tensor | None = None, spacing_mm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The label vectors (B, size) of target and source domains (B,) and pixel sizes (B,)."""
        if source is None or spacing_mm is None:
            raise ValueError("`source` and `spacing_mm` must be given to a generator that starts from them, got None.")
        hot = [one_hot(domain, self.num_domains).float() for domain in (target, source)]
        return torch.cat([*hot, spacing_mm.float()[:, None]], dim=1)
