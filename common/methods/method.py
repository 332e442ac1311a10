"""The parts that translation methods share: base class, freezing, image pool and learning-rate schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..distributed import joined, own_part


class TrainingServices(Protocol):
    """Services that an engine offers to a method; `common.engines.TranslationTrainer` implements them."""

    @property
    def epoch(self) -> int:
        """Current epoch, counted from 1."""

    @property
    def step(self) -> int:
        """Number of the optimizers' current step since the training began, from 1; a step may take several batches."""

    def autocast(self) -> AbstractContextManager:
        """Return a context of mixed precision if the training uses it."""

    def update(self, optimizer: Optimizer | Sequence[Optimizer], loss: torch.Tensor) -> None:
        """Back-propagate `loss` and step one optimizer or several, with everything that belongs to a step."""


class TranslationMethod:
    """Base class of the methods: it names the parts that an engine saves, resumes and moves.

    A subclass performs one iteration in `__call__(trainer, batch)` and returns a flat dict: scalar losses, and
    the images `real_source`, `fake_target`, `real_target` for the pictures.

    Args:
        generator: Network that will be deployed.
        networks: All networks by name, including the generator.
        optimizers: All optimizers by name.
        pools: Image pools by name.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        networks: dict[str, nn.Module],
        optimizers: dict[str, Optimizer],
        pools: dict[str, Any] | None = None,
    ) -> None:
        self.generator = generator
        self.networks = networks
        self.optimizers = optimizers
        self.pools = pools or {}

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Perform one iteration on a batch of images in [-1, 1], usually `source` and `target` (B, C, H, W[, D])."""
        raise NotImplementedError


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Keep gradients from the weights of `networks` inside the context; they flow through the networks."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def as_saved(image: torch.Tensor, rounding: float | None) -> torch.Tensor:
    """Round an image to the steps that a file can store; the gradient passes as if it were not rounded.

    Args:
        image: Image in [-1, 1], any shape.
        rounding: Step; None: the image as it is.
    """
    if rounding is None:
        return image
    return image + ((image / rounding).round() * rounding - image).detach()


class ImagePool:
    """Pool of past translations that steadies a discriminator.

    Shrivastava et al., CVPR 2017, section 2.3: with probability one half an image is exchanged for an older one.
    Several processes share one pool, of which each holds a copy.

    Args:
        size: Number of images kept; 0 returns the images unchanged.

    Raises:
        ValueError: If `size` is negative.

    Example:
        >>> pool = ImagePool(size=2)
        >>> pool(torch.ones(1, 1, 4, 4)).shape
        torch.Size([1, 1, 4, 4])
    """

    def __init__(self, size: int = 50) -> None:
        if size < 0:
            raise ValueError(f"`size` must be >= 0, got {size}.")
        self.size = size
        self.images: list[torch.Tensor] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Exchange images with the pool.

        Args:
            images: Images (B, C, H, W[, D]).

        Returns:
            The same number of images, detached; each is the given one or an older one.
        """
        images = images.detach()
        if self.size == 0:
            return images
        return own_part(torch.stack([self._exchange(image) for image in joined(images)]))

    def _exchange(self, image: torch.Tensor) -> torch.Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if torch.rand(()).item() < 0.5:
            return image
        index = int(torch.randint(self.size, ()).item())
        older, self.images[index] = self.images[index], image.clone()
        return older

    def state_dict(self) -> dict[str, Any]:
        return {"images": list(self.images)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.images = list(state["images"])


class ConstantThenLinear(LambdaLR):
    """Learning-rate schedule of CycleGAN and CUT: constant, then linear to 0, which is reached after the last epoch.

    Zhu et al., ICCV 2017, section 4: 100 epochs constant, 100 epochs to zero.

    Args:
        optimizer: Optimizer whose rates are scheduled; step once per epoch.
        max_epochs: Length of the training.
        constant: Fraction of the epochs before the decay, in [0, 1).

    Raises:
        ValueError: If `constant` is out of range.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> ConstantThenLinear(optimizer, max_epochs=4).lr_lambdas[0](3)
        0.5
    """

    def __init__(self, optimizer: Optimizer, max_epochs: int, *, constant: float = 0.5) -> None:
        if not 0 <= constant < 1:
            raise ValueError(f"`constant` must be in [0, 1), got {constant}.")
        start = int(max_epochs * constant)
        super().__init__(optimizer, lambda epoch: min(1.0, max(0.0, (max_epochs - epoch) / max(1, max_epochs - start))))
