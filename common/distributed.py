"""Data-parallel training without a wrapper around the networks.

Ranks, joined batches, random numbers that do not depend on the number of processes, averaged gradients, and batch
normalization over the images of all ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def is_distributed() -> bool:
    """Return whether this process is one of several, started by `torchrun`."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return this process's rank; 0 if there is one process. Rank 0 writes the files."""
    return distributed.get_rank() if is_distributed() else 0


def processes() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if is_distributed() else 1


def joined(part: torch.Tensor) -> torch.Tensor:
    """Gather the batch of all processes, in the order in which a single process would have drawn it.

    Args:
        part: This process's part, (B, ...), of equal shape on all ranks.

    Returns:
        Joined batch, (B * processes, ...), detached: image `b` of rank `r` has index `b * processes + r`, in the order
        of `EpochSampler`.

    Example:
        >>> joined(torch.tensor([3, 1])).tolist()  # alone
        [3, 1]
    """
    part = part.detach()
    if processes() == 1:
        return part
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(processes())]
    distributed.all_gather(parts, part.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def own_part(batch: torch.Tensor) -> torch.Tensor:
    """Return this process's part (B, ...) of a joined batch (B * processes, ...); the inverse of `joined`.

    Example:
        >>> own_part(torch.tensor([3, 1])).tolist()  # alone
        [3, 1]
    """
    return batch[rank() :: processes()]


def draw_for_each(count: int, draw: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """Draw random numbers for this rank's images as a single process would for the joined batch.

    All processes have the same random state (ensured by `TranslationTrainer`), draw for all images, and take their own.

    Args:
        count: Number B of this process's images.
        draw: Function from a number of images to as many draws, (number, ...).

    Returns:
        Draws of this process, (B, ...).

    Example:
        >>> draw_for_each(2, lambda number: torch.rand(number, 1)).shape
        torch.Size([2, 1])
    """
    return own_part(draw(count * processes()))


def broadcast_weights(networks: Iterable[nn.Module]) -> None:
    """Copy the weights and buffers of rank 0 to all ranks."""
    if is_distributed():
        for network in networks:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over the ranks, in one message.

    `DistributedDataParallel` does this from hooks in `forward`; a GAN calls parts of a network (`encode`), calls it
    several times before one backward pass, and freezes it in between, each of which these hooks forbid or restrict.
    Averaging after the backward pass has the same result and leaves the networks unwrapped.
    """
    if not is_distributed():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= processes()
    for gradient, averaged in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(averaged.view_as(gradient))


def check_same_epoch(epoch: int, device: torch.device) -> None:
    """Check that all ranks resumed the same epoch.

    Args:
        epoch: Epoch of this process.
        device: Device of this process.

    Raises:
        ValueError: If epochs differ; raised on every rank.
    """
    epochs = joined(torch.tensor([epoch], device=device)).tolist()
    if len(set(epochs)) > 1:
        raise ValueError(
            f"All processes must resume the same state, but they are at the epochs {epochs}, in the order of their"
            " ranks: give an `--output_dir` that all nodes see, or `--resume False`."
        )


def join_batch_norms(network: nn.Module) -> None:
    """Let the batch normalizations of a network use the images of all ranks; does nothing in a single process.

    The normalization of Ioffe and Szegedy ("Batch normalization", ICML 2015, algorithm 1) depends on the whole batch;
    with the statistics of each rank's own images, ranks would train another network than a single process, and their
    running averages would drift apart. torch's `SyncBatchNorm` supports accelerators only.

    Args:
        network: Network that is changed in place; weights, buffers and their names stay the same.
    """
    if not is_distributed():
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, JoinedBatchNorm):
                setattr(parent, name, JoinedBatchNorm(child))


class JoinedBatchNorm(_BatchNorm):
    """A batch normalization whose statistics, in training, are those of the batches of all ranks.

    Args:
        norm: The normalization that it replaces, whose weights and buffers it shares.

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
        """Normalise a batch by the statistics of all ranks.

        Args:
            input: (B, C, ...), of equal shape on all ranks.

        Returns:
            A tensor of the same shape and type.
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
        """Update the running averages, with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """Sum over the ranks; the loss of each rank depends on it, so that gradients are summed as well."""

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
