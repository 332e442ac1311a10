"""Stage 2 of neural contrast enhancement: learn to put back what the frozen remover took out."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from ..losses import ReconstructionLoss
from .method import TrainingServices, TranslationMethod


class ContrastEnhancement(TranslationMethod):
    """
    Supervised learning on pairs of synthetic NECT and real CECT, which are aligned: the paper's Ours-S.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 3.2, equations (3) to (5). Of a batch
    only the CECT, `target`, is used.

    Args:
        generator: G_N->C, from NECT to CECT; the one that is deployed.
        remover: G_C->N of stage 1, e.g. from `common.networks.load_stage`; frozen in place, in `eval()`. It is not
            among the method's networks: an engine neither trains it nor saves it again.
        generator_optimizer: steps G_N->C.
        reconstruction_loss: equations (3) to (5).
    """

    def __init__(
        self,
        generator: nn.Module,
        remover: nn.Module,
        *,
        generator_optimizer: Optimizer,
        reconstruction_loss: ReconstructionLoss,
    ) -> None:
        super().__init__(generator, networks={"generator": generator}, optimizers={"generator": generator_optimizer})
        self.remover = remover.requires_grad_(False).eval()
        self.reconstruction_loss = reconstruction_loss

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_cect = batch["target"]
        with trainer.autocast():
            with torch.no_grad():
                synthetic_nect = self.remover(real_cect)
            predicted_cect = self.generator(synthetic_nect)
        losses = self.reconstruction_loss.terms(predicted_cect, real_cect)  # equations (3) to (5)
        trainer.update(self.optimizers["generator"], losses["reconstruction"])

        # The pictures show what the generator saw, and that is the synthetic NECT.
        images = {"real_source": synthetic_nect, "fake_target": predicted_cect.detach(), "real_target": real_cect}
        return {"generator": losses["reconstruction"], **losses, **images}
