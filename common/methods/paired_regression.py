"""A network trained directly on pairs, aligned or not."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from ..losses import ReconstructionLoss
from .method import TrainingServices, TranslationMethod


class PairedRegression(TranslationMethod):
    """
    Predicts the target of each pair, without an adversary.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 1, rule this out for NECT and CECT of
    a patient, which are never aligned: where an organ's place differs between the two, the best prediction is a blur
    over its places. This is the baseline that shows by how much.

    Args:
        generator: from `source` to `target`; the one that is deployed.
        generator_optimizer: steps it.
        reconstruction_loss: between prediction and target.
    """

    def __init__(
        self, generator: nn.Module, *, generator_optimizer: Optimizer, reconstruction_loss: ReconstructionLoss
    ) -> None:
        super().__init__(generator, networks={"generator": generator}, optimizers={"generator": generator_optimizer})
        self.reconstruction_loss = reconstruction_loss

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source, real_target = batch["source"], batch["target"]
        with trainer.autocast():
            predicted = self.generator(real_source)
        losses = self.reconstruction_loss.terms(predicted, real_target)
        trainer.update(self.optimizers["generator"], losses["reconstruction"])

        images = {"real_source": real_source, "fake_target": predicted.detach(), "real_target": real_target}
        return {"generator": losses["reconstruction"], **losses, **images}
