"""A pool of past translations that steadies a discriminator."""

from __future__ import annotations

from typing import Any

import torch

from ..ranks import joined, own_part


class ImagePool:
    """
    Mixes past translations into what the discriminator sees.

    Shrivastava et al., CVPR 2017, section 2.3: with probability one half an image is exchanged for an older one.
    Several processes have one pool, of which each holds a copy.

    Args:
        size: number of images kept; 0 returns the images as they are.

    Raises:
        ValueError: when `size` is negative.

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
        """
        Args:
            images: shape (B, C, H, W[, D]).

        Returns:
            as many images, detached; each is the given one or an older one.
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
