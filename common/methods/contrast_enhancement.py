"""Neural contrast enhancement (Seo et al., IEEE WACV 2021): its stages, its joint training and its baseline.

- Stage 0, `ContrastClassification`: a classifier of NECT and CECT, for the perceptual loss.
- Stage 1, `ContrastRemoval`: learn to remove the contrast from a CECT.
- Stage 2, `ContrastEnhancement`: learn to restore what the frozen remover removed (Ours-S).
- `JointContrastEnhancement`: stages 1 and 2 in one iteration (Ours-J).
- `SingleStageEnhancement`: the baseline Single, which enhances in one stage with an adversarial loss alone.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, l1_loss
from torch.optim import Optimizer

from ..losses.precision import full_precision
from ..losses.reconstruction import ReconstructionLoss
from ..losses.three_class import ThreeClassAdversarialLoss
from .method import TrainingServices, TranslationMethod, frozen

SOURCE, TARGET = 0, 1  # classes of `ContrastClassification`


class ContrastClassification(TranslationMethod):
    """Cross-entropy of source (NECT, class 0) against target (CECT, class 1).

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 3.2: "trained for classifying NECT
    and CECT images in our training dataset".

    Args:
        classifier: Network from images to logits (B, 2). For the engine it is the `generator`, the network that is
            saved.
        optimizer: Optimizer of the classifier.
    """

    def __init__(self, classifier: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(classifier, networks={"generator": classifier}, optimizers={"generator": optimizer})

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Perform one iteration on `source` and `target`, each (B, C, H, W), and return the loss and the accuracy."""
        # One batch of both: a batch norm that saw one class at a time would remove the difference of their means.
        images = torch.cat([batch["source"], batch["target"]])
        labels = torch.full((len(images),), TARGET, device=images.device)
        labels[: len(batch["source"])] = SOURCE
        with trainer.autocast():
            logits = self.generator(images)
        loss = cross_entropy(full_precision(logits), labels)
        trainer.update(self.optimizers["generator"], loss)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return {"classification": loss, "accuracy": accuracy}


class ContrastRemoval(TranslationMethod):
    """Generator of NECT from CECT, against a discriminator of real NECT, real CECT and synthetic NECT.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 3.1, equations (1) and (2). Batches
    contain NECT as `source` and CECT as `target`, of any patients: here the input is the `target`.

    Args:
        remover: G_C->N, from CECT to NECT; the network that is deployed, for stage 2.
        discriminator: D, from images to logits (B, 3).
        remover_optimizer: Optimizer of G_C->N.
        discriminator_optimizer: Optimizer of D.
        adversarial_loss: Loss of equations (1) and (2), with NECT as destination.
        identity_weight: Weight of the L1 between a NECT and the remover's output for it, in which there is nothing to
            remove. Not in the paper, which has 0.
    """

    def __init__(
        self,
        remover: nn.Module,
        discriminator: nn.Module,
        *,
        remover_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: ThreeClassAdversarialLoss,
        identity_weight: float = 0.0,
    ) -> None:
        super().__init__(
            remover,
            networks={"generator": remover, "discriminator": discriminator},
            optimizers={"generator": remover_optimizer, "discriminator": discriminator_optimizer},
        )
        self.remover = remover
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.identity_weight = identity_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_nect, real_cect = batch["source"], batch["target"]
        with trainer.autocast():
            synthetic_nect = self.remover(real_cect)
            real_logits = self.discriminator(real_nect), self.discriminator(real_cect)
            synthetic_logits = self.discriminator(synthetic_nect.detach())
        discriminator_loss = self.adversarial_loss.discriminator(*real_logits, synthetic_logits)  # equation (1)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.discriminator):
            with trainer.autocast():
                synthetic_logits = self.discriminator(synthetic_nect)
            losses = {"adversarial": self.adversarial_loss.generator(synthetic_logits)}  # equation (2)
            total = losses["adversarial"]
            if self.identity_weight > 0:
                with trainer.autocast():
                    same_nect = self.remover(real_nect)
                losses["identity"] = l1_loss(same_nect.float(), real_nect.float())
                total = total + self.identity_weight * losses["identity"]
            trainer.update(self.optimizers["generator"], total)

        images = {"real_source": real_cect, "fake_target": synthetic_nect.detach(), "real_target": real_nect}
        return {"generator": total, **losses, "discriminator": discriminator_loss, **images}


class ContrastEnhancement(TranslationMethod):
    """Supervised learning on aligned pairs of synthetic NECT and real CECT: the paper's Ours-S.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 3.2, equations (3) to (5). Only the
    CECT of a batch, `target`, is used.

    Args:
        generator: G_N->C, from NECT to CECT; the network that is deployed.
        remover: G_C->N of stage 1, e.g. from `common.networks.load_stage`; frozen in place, in `eval()`. It is not
            among the method's networks: an engine neither trains it nor saves it again.
        generator_optimizer: Optimizer of G_N->C.
        reconstruction_loss: Loss of equations (3) to (5).
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


class JointContrastEnhancement(TranslationMethod):
    """Remover and enhancer trained jointly, end to end: the paper's Ours-J.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, equations (1) to (5) and section 4.2. The
    gradient of the reconstruction also reaches the remover, which may therefore leave traces in the synthetic NECT that
    make the CECT easier to predict; in the paper's words it is "distracted" by G_N->C. Equations (2) and (5) are summed
    without a weight between them, since the paper gives none.

    Args:
        generator: G_N->C, from NECT to CECT; the network that is deployed.
        remover: G_C->N, from CECT to NECT.
        discriminator: D, from images to logits (B, 3).
        generator_optimizer: Optimizer of G_N->C and G_C->N.
        discriminator_optimizer: Optimizer of D.
        adversarial_loss: Loss of equations (1) and (2), with NECT as destination.
        reconstruction_loss: Loss of equations (3) to (5).
    """

    def __init__(
        self,
        generator: nn.Module,
        remover: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: ThreeClassAdversarialLoss,
        reconstruction_loss: ReconstructionLoss,
    ) -> None:
        super().__init__(
            generator,
            networks={"generator": generator, "remover": remover, "discriminator": discriminator},
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
        )
        self.remover = remover
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.reconstruction_loss = reconstruction_loss

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_nect, real_cect = batch["source"], batch["target"]
        with trainer.autocast():
            synthetic_nect = self.remover(real_cect)
            real_logits = self.discriminator(real_nect), self.discriminator(real_cect)
            synthetic_logits = self.discriminator(synthetic_nect.detach())
        discriminator_loss = self.adversarial_loss.discriminator(*real_logits, synthetic_logits)  # equation (1)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.discriminator):
            with trainer.autocast():
                synthetic_logits = self.discriminator(synthetic_nect)
                predicted_cect = self.generator(synthetic_nect)
            losses = {"adversarial": self.adversarial_loss.generator(synthetic_logits)}  # equation (2)
            losses |= self.reconstruction_loss.terms(predicted_cect, real_cect)  # equations (3) to (5)
            total = losses["adversarial"] + losses["reconstruction"]
            trainer.update(self.optimizers["generator"], total)

        images = {"real_source": synthetic_nect.detach(), "fake_target": predicted_cect.detach()}
        return {"generator": total, **losses, "discriminator": discriminator_loss, **images, "real_target": real_cect}


class SingleStageEnhancement(TranslationMethod):
    """Generator of CECT from NECT, against a discriminator of real CECT, real NECT and synthetic CECT.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 4.2: "Single trains the target model
    jointly with the discriminator D through an adversarial loss only", with the paper's networks. Hence equations (1)
    and (2), with the domains exchanged.

    Args:
        generator: G_N->C, from NECT (`source`) to CECT (`target`).
        discriminator: D, from images to logits (B, 3).
        generator_optimizer: Optimizer of G_N->C.
        discriminator_optimizer: Optimizer of D.
        adversarial_loss: Loss of equations (1) and (2), with CECT as destination.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: ThreeClassAdversarialLoss,
    ) -> None:
        super().__init__(
            generator,
            networks={"generator": generator, "discriminator": discriminator},
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
        )
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_nect, real_cect = batch["source"], batch["target"]
        with trainer.autocast():
            synthetic_cect = self.generator(real_nect)
            real_logits = self.discriminator(real_cect), self.discriminator(real_nect)
            synthetic_logits = self.discriminator(synthetic_cect.detach())
        discriminator_loss = self.adversarial_loss.discriminator(*real_logits, synthetic_logits)  # equation (1)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.discriminator):
            with trainer.autocast():
                synthetic_logits = self.discriminator(synthetic_cect)
            generator_loss = self.adversarial_loss.generator(synthetic_logits)  # equation (2)
            trainer.update(self.optimizers["generator"], generator_loss)

        losses = {"generator": generator_loss, "discriminator": discriminator_loss}
        images = {"real_source": real_nect, "fake_target": synthetic_cect.detach(), "real_target": real_cect}
        return {**losses, **images}
