"""A generator of several domains trained on aligned pairs: what an unpaired method of those domains could reach."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from .domain_labels import DomainLabels
from .method import TrainingServices, TranslationMethod


class PairedConversion(TranslationMethod):
    """
    Predicts the same slice in another domain, by its mean absolute difference, without an adversary.

    The supervised end of the scale for StarGAN and its kin, on their own generator; not in the papers.

    Args:
        generator: called as `generator(image, label)`; the one that is deployed.
        labels: writes the targets' labels.
        generator_optimizer: steps it.
    """

    def __init__(self, generator: nn.Module, *, labels: DomainLabels, generator_optimizer: Optimizer) -> None:
        super().__init__(generator, networks={"generator": generator}, optimizers={"generator": generator_optimizer})
        self.labels = labels

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update on `image` (B, C, H, W) of the domains `domain` (B,), whose truth is `truth` in `target` (B,)."""
        image, truth = batch["image"], batch["truth"]
        label = self.labels(batch["target"], batch["domain"], batch.get("spacing_mm"))
        with trainer.autocast():
            predicted = self.generator(image, label)
        loss = l1_loss(predicted.float(), truth.float())
        trainer.update(self.optimizers["generator"], loss)
        return {"generator": loss, "real_source": image, "fake_target": predicted.detach(), "real_target": truth}
