"""Choosing a checkpoint without pairs: does the output look like the target, and is it still the same patient?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .wasserstein import Slices, as_slices, sliced_wasserstein

# Weight of lost and invented edges beside realism in `unpaired_score`.
FAITHFULNESS_WEIGHT = 1.0


def edge_disagreement(source: Tensor, output: Tensor, *, epsilon: float = 0.15) -> float:
    """Share of the edges that source and output do not have in common: 0 is best, 1 is none; blind to their sign.

    With the normalised gradient n(I) = grad I / (|grad I| + epsilon) of Jaouen et al., ISBI 2024, equation (4), summed
    over all pixels:

        1 - 2 sum <n(source), n(output)>^2 / (sum |n(source)|^2 + sum |n(output)|^2)

    that is, the paper's squared alignment averaged with each image's edge strength as weight, so that a lost edge and
    an invented edge cost the same. Identical images do not reach 0 but the value that weak edges leave (|n| < 1).

    Args:
        source: slices in [-1, 1], shape ``(N, 1, H, W)``.
        output: their translations, same shape.
        epsilon: noise threshold, in intensity per pixel.

    Raises:
        ValueError: on unequal or wrong shapes, or an epsilon that is not positive.

    Example:
        >>> step = torch.cat([-torch.ones(1, 1, 16, 8), torch.ones(1, 1, 16, 8)], dim=-1)
        >>> edge_disagreement(step, -step) == edge_disagreement(step, step) < edge_disagreement(step, step.mT) == 1.0
        True
    """
    if epsilon <= 0:
        raise ValueError(f"`epsilon` must be positive, got {epsilon}; the paper uses 0.15.")
    source, output = as_slices(source, "source"), as_slices(output, "output")
    if source.shape != output.shape:
        raise ValueError(f"`output` must have the shape of `source` {tuple(source.shape)}, got {tuple(output.shape)}.")
    first, second = (normalised_gradient(image, epsilon=epsilon) for image in (source, output))
    strength = first.square().sum() + second.square().sum()
    if strength == 0:
        return 0.0
    aligned = (first * second).sum(dim=1).square().sum()
    return float(1.0 - 2.0 * aligned / strength)


def unpaired_metrics(
    sources: Tensor,
    outputs: Tensor,
    references: Slices,
    *,
    faithfulness_weight: float = FAITHFULNESS_WEIGHT,
    epsilon: float = 0.15,
    patches: int = 8192,
    seed: int = 0,
) -> dict[str, float]:
    """Realism, faithfulness and one number that combines them; lower is better for all three.

    ``unpaired_score`` = W(outputs, references) / W(sources, references)
    + weight (E(sources, outputs) - E(sources, sources)) / (1 - E(sources, sources))

    with W the `sliced_wasserstein` distance and E the `edge_disagreement`. Handing the source through scores exactly 1:
    wholly faithful, not at all translated. A realistic image of another patient has a first term near 0 and a second
    near the weight. Neither term sees whether each tissue got its right intensity *at its place*: an output with the
    right histogram, the right edges and two tissues exchanged is not noticed.

    Args:
        sources: slices in [-1, 1], shape ``(N, 1, H, W)``.
        outputs: their translations, same shape.
        references: slices of the target domain, of other patients, as in `sliced_wasserstein`.
        faithfulness_weight: weight of the second term, >= 0.
        epsilon: noise threshold of the edges.
        patches: patches drawn from each set at each level.
        seed: seed of the random patches and directions.

    Returns:
        ``sliced_wasserstein``, ``edge_disagreement``, ``unpaired_score``.

    Raises:
        ValueError: as in the two functions above, or when the weight is negative.
    """
    if faithfulness_weight < 0:
        raise ValueError(f"`faithfulness_weight` must be >= 0, got {faithfulness_weight}.")
    distance = sliced_wasserstein(outputs, references, patches=patches, seed=seed)
    untranslated = sliced_wasserstein(sources, references, patches=patches, seed=seed)
    disagreement = edge_disagreement(sources, outputs, epsilon=epsilon)
    unavoidable = edge_disagreement(sources, sources, epsilon=epsilon)
    tiny = torch.finfo(torch.float32).eps
    realism = distance / max(untranslated, tiny)
    lost = (disagreement - unavoidable) / max(1.0 - unavoidable, tiny)
    return {
        "sliced_wasserstein": distance,
        "edge_disagreement": disagreement,
        "unpaired_score": realism + faithfulness_weight * lost,
    }


def unpaired_score(sources: Tensor, outputs: Tensor, references: Slices, *, seed: int = 0) -> float:
    """The one number of `unpaired_metrics`, lower is better; 1 is the untranslated source."""
    return unpaired_metrics(sources, outputs, references, seed=seed)["unpaired_score"]


def normalised_gradient(images: Tensor, *, epsilon: float = 0.15) -> Tensor:
    """n(I) of images ``(N, 1, H, W)``, shape ``(N, 2, H - 2, W - 2)`` (along W, along H), length in [0, 1).

    The Sobel kernels give a unit ramp the gradient 1, so ``epsilon`` is an intensity per pixel.
    """
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=images.dtype) / 8.0
    gradient: Tensor = functional.conv2d(images, torch.stack([kernel, kernel.T])[:, None])
    normalised: Tensor = gradient / (gradient.norm(dim=1, keepdim=True) + epsilon)
    return normalised
