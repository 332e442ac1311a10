"""Batch normalization over the images of all ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ranks import is_distributed, processes


def join_batch_norms(network: nn.Module) -> None:
    """
    Lets the batch normalizations of a network see the images of all ranks; alone, they stay what they are.

    The normalization of Ioffe and Szegedy ("Batch normalization", ICML 2015, algorithm 1) depends on the whole batch;
    with the statistics of each rank's own images, ranks would train another network than one process does, and their
    running averages would drift apart. torch's `SyncBatchNorm` is for accelerators alone.

    Args:
        network: changed in place; its weights, buffers and their names stay the same.
    """
    if not is_distributed():
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, JoinedBatchNorm):
                setattr(parent, name, JoinedBatchNorm(child))


class JoinedBatchNorm(_BatchNorm):
    """
    A batch normalization whose statistics, in training, are those of the batches of all ranks.

    Args:
        norm: the one that it stands for, whose weights and buffers it shares.

    Example:
        >>> norm = nn.BatchNorm2d(3)
        >>> image = torch.rand(2, 3, 4, 4)
        >>> torch.allclose(JoinedBatchNorm(norm)(image), norm(image), atol=1e-6)  # alone
        True
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.training = norm.training

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"`input` must have at least 2 dimensions (batch, channel), got {input.dim()}.")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: (B, C, ...), of equal shape on all ranks.

        Returns:
            of the same shape and type.
        """
        if not (self.training and is_distributed()):
            return super().forward(input)
        values = input.double() if input.dtype == torch.float64 else input.float()
        axes = [axis for axis in range(input.dim()) if axis != 1]
        mean = _Sum.apply(values.mean(axes)) / processes()
        shape = [1, -1] + [1] * (input.dim() - 2)
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().mean(axes)) / processes()
        self._remember(mean.detach(), variance.detach(), processes() * input.numel() // input.shape[1])
        normalized = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalized = normalized * self.weight.view(shape) + self.bias.view(shape)
        return normalized.to(input.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        """Updates the running averages, of the variance that is free of bias."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over the ranks; each rank's loss depends on it, so that the gradients are summed as well."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total
