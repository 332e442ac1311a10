"""Losses, one file each: a pure function beside a small module. All return float32 or float64 scalars."""

from .adversarial import AdversarialLoss, discriminator_loss, generator_loss
from .gradient_penalty import gradient_penalty
from .guidance import (
    CosineContentLoss,
    GuidedContrastiveLoss,
    PerceptualGuidanceLoss,
    cosine_content_loss,
    guided_contrastive_loss,
)
from .multi_modality import MultiModalitySRLoss, ssim_loss
from .ngf import NormalizedGradientFieldLoss, image_gradient, normalized_gradient_field, normalized_gradient_field_loss
from .patch_nce import PatchNCELoss, patch_nce_loss
from .perceptual import PerceptualLoss, perceptual_distance
from .reconstruction import ForegroundLoss, ReconstructionLoss
from .texture import TextureLoss
from .three_class import ThreeClassAdversarialLoss

__all__ = [
    "AdversarialLoss",
    "CosineContentLoss",
    "ForegroundLoss",
    "GuidedContrastiveLoss",
    "MultiModalitySRLoss",
    "NormalizedGradientFieldLoss",
    "PatchNCELoss",
    "PerceptualGuidanceLoss",
    "PerceptualLoss",
    "ReconstructionLoss",
    "TextureLoss",
    "ThreeClassAdversarialLoss",
    "cosine_content_loss",
    "discriminator_loss",
    "generator_loss",
    "gradient_penalty",
    "guided_contrastive_loss",
    "image_gradient",
    "normalized_gradient_field",
    "normalized_gradient_field_loss",
    "patch_nce_loss",
    "perceptual_distance",
    "ssim_loss",
]
