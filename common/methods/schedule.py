"""The learning-rate schedule of CycleGAN and CUT."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class ConstantThenLinear(LambdaLR):
    """
    Constant, then linearly to zero: the rate reaches 0 one epoch after the last.

    Zhu et al., ICCV 2017, section 4: 100 epochs constant, 100 epochs to zero.

    Args:
        optimizer: its rates are scheduled; step once an epoch.
        max_epochs: length of the training.
        constant: share of the epochs before the decay, in [0, 1).

    Raises:
        ValueError: when `constant` is outside its range.

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
