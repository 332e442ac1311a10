"""Stage 0 of neural contrast enhancement: a classifier of NECT and CECT, for the perceptual loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ..losses.precision import full_precision
from .method import TrainingServices, TranslationMethod

SOURCE, TARGET = 0, 1  # the classes


class ContrastClassification(TranslationMethod):
    """
    Cross-entropy of source (NECT, class 0) against target (CECT, class 1).

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 3.2: "trained for classifying NECT
    and CECT images in our training dataset".

    Args:
        classifier: called with images, gives logits (B, 2). To the engine it is the `generator`: what is saved.
        optimizer: steps the classifier.
    """

    def __init__(self, classifier: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(classifier, networks={"generator": classifier}, optimizers={"generator": optimizer})

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One iteration on `source` and `target`, each (B, C, H, W); returns the loss and the share that is right."""
        # One batch of both: a batch norm that saw one class at a time would take the difference of their means away.
        images = torch.cat([batch["source"], batch["target"]])
        labels = torch.full((len(images),), TARGET, device=images.device)
        labels[: len(batch["source"])] = SOURCE
        with trainer.autocast():
            logits = self.generator(images)
        loss = cross_entropy(full_precision(logits), labels)
        trainer.update(self.optimizers["generator"], loss)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return {"classification": loss, "accuracy": accuracy}
