"""What two processes do in the tests of distributed training: `torchrun -m tests.helpers.two_ranks FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.optim import SGD

from common.distributed import check_same_epoch, join_batch_norms, joined, own_part, rank
from common.methods import DomainLabels

from .methods import NAMES
from .trainers import trainer, weights

IMAGES = torch.linspace(-1, 1, 4 * 2 * 5 * 3).view(4, 2, 5, 3).sin()


def normalized(norm: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two steps of a batch norm within a network, and what they leave behind; the loss is a mean over the images."""
    network = nn.Sequential(nn.Conv2d(2, 2, 1), norm)
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    join_batch_norms(network)
    for _ in range(2):
        output = network(images)
    output.square().mul(torch.arange(3.0)).mean().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return {"output": output.detach(), **network.state_dict(), **{f"{k} gradient": v for k, v in gradients.items()}}


def scaled_step(folder: Path | None, *, overflow: bool) -> torch.Tensor:
    """One step with gradient scaling from a loss that overflows, if at all, on rank 1 alone."""
    run = trainer("nec", folder, epochs=1, batch_size=1, optimizer=SGD, amp=True, amp_dtype="float16")
    run.state.epoch_length, run.state.iteration = 1, 1
    (weight, *_) = run.network.parameters()
    before = weight.detach().clone()
    run.update(run.method.optimizers["generator"], weight.sum() * (float("inf") if overflow and rank() == 1 else 1.0))
    return weight.detach() - before


def same_epoch(epoch: int) -> str:
    """The refusal, or an empty text."""
    try:
        check_same_epoch(epoch, torch.device("cpu"))
    except ValueError as error:
        return str(error)
    return ""


def drawn_labels(domain: torch.Tensor, **options: bool) -> torch.Tensor:
    """The targets of a batch, always from the same random state."""
    torch.manual_seed(5)
    return DomainLabels(3, **options).draw(domain)


def main(folder: Path) -> None:
    """Writes what this rank has found."""
    distributed.init_process_group("gloo")
    found: dict[str, Any] = {}
    for name in NAMES:
        run = trainer(name, folder / name, epochs=2, batch_size=1, seed=rank(), optimizer=SGD)
        run.run()
        pools = {n: pool.images for n, pool in run.method.pools.items()}
        found[name] = {"weights": weights(run), "pools": pools}
    found["joined"] = joined(torch.tensor([[10.0 * rank()], [10.0 * rank() + 1]]))
    found["norm"] = normalized(nn.BatchNorm2d(2), own_part(IMAGES))
    found["labels"] = [drawn_labels(own_part(torch.tensor([0, 1, 2, 2])), permute=flag) for flag in (False, True)]
    found["steps"] = [scaled_step(None, overflow=flag) for flag in (True, False)]
    found["refusals"] = [same_epoch(3), same_epoch(rank())]
    torch.save(found, folder / f"rank{rank()}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
