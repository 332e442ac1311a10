"""Choosing a checkpoint without pairs: does the output look like the target, and is it still the same patient?

Realism is the sliced Wasserstein distance between the patches of two sets of images, faithfulness the agreement of
edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

Slices = Tensor | Sequence[Tensor]

# Encoded background is -1; a patch counts if its centre lies above this value.
FOREGROUND_LEVEL = -0.9

# Weight of lost and invented edges relative to realism in `unpaired_score`.
FAITHFULNESS_WEIGHT = 1.0


def sliced_wasserstein(
    outputs: Slices,
    references: Slices,
    *,
    patch: int = 7,
    levels: int = 3,
    projections: int = 128,
    patches: int = 8192,
    seed: int = 0,
) -> float:
    """Compute the sliced Wasserstein distance between the patches of two sets of images; 0 is indistinguishable.

    Square patches are drawn from the foreground of every level of a Laplacian pyramid (its last level is the low-pass
    image, which holds the intensities), projected on random directions, sorted, and compared by the mean absolute
    difference of their quantiles. Rabin, Peyre, Delon, Bernot, "Wasserstein barycenter and its application to texture
    mixing", SSVM 2011; Karras, Aila, Laine, Lehtinen, "Progressive growing of GANs", ICLR 2018, section 5.

    **Differences from Karras et al.**: both sets are normalised by the mean and SD of the *references* at each level
    (not each by its own), so that a wrong brightness or contrast counts; patches come from the foreground only; sets of
    different size are compared by interpolated quantiles.

    Args:
        outputs: Slices in [-1, 1]: a tensor `(N, 1, H, W)`, or a sequence of such tensors, of any sizes.
        references: Slices of the target domain, of other patients; N may differ.
        patch: Side of a patch in pixels, odd.
        levels: Number of pyramid levels; each halves the resolution.
        projections: Number of random directions.
        patches: Number of patches drawn from each set at each level (all of them if there are fewer).
        seed: Random seed, the only source of randomness.

    Returns:
        Mean over the levels, in SDs of the references.

    Raises:
        ValueError: If dimensions are wrong, images too small for the pyramid, or a set has no foreground.

    Example:
        >>> images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> sliced_wasserstein(images, images)
        0.0
    """
    if patch < 1 or patch % 2 == 0:
        raise ValueError(f"`patch` must be a positive odd number of pixels, got {patch}; try 7.")
    for name, number in (("levels", levels), ("projections", projections), ("patches", patches)):
        if number < 1:
            raise ValueError(f"`{name}` must be >= 1, got {number}.")
    sets = [
        _patches(_batches(images, name), name, patch=patch, levels=levels, count=patches, seed=seed)
        for images, name in ((outputs, "outputs"), (references, "references"))
    ]
    distances = [_level_distance(*pair, projections=projections, seed=seed) for pair in zip(*sets, strict=True)]
    return float(torch.stack(distances).mean())


def _batches(images: Slices, name: str) -> list[Tensor]:
    batches = [images] if isinstance(images, Tensor) else list(images)
    if not batches:
        raise ValueError(f"`{name}` must hold at least one slice, got none.")
    return [as_slices(batch, name) for batch in batches]


def as_slices(images: Tensor, name: str) -> Tensor:
    """Return a float32 CPU tensor `(N, 1, H, W)`, or raise a ValueError that names the argument."""
    images = torch.as_tensor(images).detach().cpu().float()
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"`{name}` must have shape (N, 1, H, W), got {tuple(images.shape)}.")
    return images


def _patches(batches: list[Tensor], name: str, *, patch: int, levels: int, count: int, seed: int) -> list[Tensor]:
    """Draw patches `(patches, patch * patch)` of each pyramid level, evenly from all foreground centres."""
    generator = torch.Generator().manual_seed(seed)
    pyramids = [_laplacian_pyramid(batch, levels) for batch in batches]
    smallest = min(min(bands[-1][0].shape[-2:]) for bands in pyramids)
    if smallest < patch:
        raise ValueError(
            f"`{name}` must have at least {patch * 2 ** (levels - 1)} pixels per side for {levels} levels of "
            f"{patch}x{patch} patches, got {smallest} pixels at the coarsest level; use fewer levels."
        )
    result = []
    for level in range(levels):
        bands = [pyramid[level][0][:, 0] for pyramid in pyramids]
        centres = [_inner(pyramid[level][1][:, 0], patch // 2).nonzero() for pyramid in pyramids]
        number = sum(len(positions) for positions in centres)
        if number == 0:
            raise ValueError(f"`{name}` must hold foreground (values above {FOREGROUND_LEVEL}), got background only.")
        chosen = torch.randperm(number, generator=generator)[:count].sort().values
        found, first = [], 0
        for band, positions in zip(bands, centres, strict=True):
            mine = chosen[(chosen >= first) & (chosen < first + len(positions))] - first
            found.append(_cut(band, positions[mine], patch))
            first += len(positions)
        result.append(torch.cat(found))
    return result


def _inner(inside: Tensor, margin: int) -> Tensor:
    """Restrict masks `(N, H, W)` to the part in which a patch's centre may lie."""
    return inside[:, margin : inside.shape[1] - margin, margin : inside.shape[2] - margin]


def _cut(images: Tensor, corners: Tensor, patch: int) -> Tensor:
    """Cut patches `(n, patch * patch)` from images `(N, H, W)` at corners `(n, 3)`: image, row, column."""
    offset = torch.arange(patch)
    rows = corners[:, 1, None, None] + offset[:, None]
    columns = corners[:, 2, None, None] + offset
    return images[corners[:, 0, None, None], rows, columns].flatten(1)


def _laplacian_pyramid(images: Tensor, levels: int) -> list[tuple[Tensor, Tensor]]:
    """Return (band, foreground) of each level, finest first; the last band is the low-pass image itself."""
    inside = (images > FOREGROUND_LEVEL).float()
    pyramid = []
    for _ in range(levels - 1):
        smaller = functional.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)
        larger = functional.interpolate(smaller, size=images.shape[-2:], mode="bilinear", align_corners=False)
        pyramid.append((images - larger, inside > 0.5))
        images, inside = smaller, functional.avg_pool2d(inside, 2, ceil_mode=True, count_include_pad=False)
    return [*pyramid, (images, inside > 0.5)]


def _level_distance(outputs: Tensor, references: Tensor, *, projections: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(projections, outputs.shape[1], generator=generator, dtype=outputs.dtype)
    directions = directions / directions.norm(dim=1, keepdim=True)
    mean, std = references.mean(), references.std(correction=0).clamp_min(torch.finfo(outputs.dtype).eps)
    first, second = (directions @ ((patches - mean) / std).T for patches in (outputs, references))
    size = max(first.shape[1], second.shape[1])
    return (_quantiles(first, size) - _quantiles(second, size)).abs().mean()


def _quantiles(samples: Tensor, size: int) -> Tensor:
    """Compute `size` evenly spaced quantiles of each row by linear interpolation: `(rows, n) -> (rows, size)`."""
    ordered = samples.sort(dim=1).values
    if ordered.shape[1] == size:
        return ordered
    return functional.interpolate(ordered[None], size=size, mode="linear", align_corners=True)[0]


def edge_disagreement(source: Tensor, output: Tensor, *, epsilon: float = 0.15) -> float:
    """Compute the fraction of edges that source and output do not share: 0 is best, 1 is none; blind to their sign.

    With the normalised gradient n(I) = grad I / (|grad I| + epsilon) of Jaouen et al., ISBI 2024, equation (4), summed
    over all pixels:

        1 - 2 sum <n(source), n(output)>^2 / (sum |n(source)|^2 + sum |n(output)|^2)

    that is, the paper's squared alignment averaged with each image's edge strength as weight, so that a lost edge and
    an invented edge cost the same. Identical images do not reach 0 but the value that weak edges leave (|n| < 1).

    Args:
        source: Slices in [-1, 1], shape `(N, 1, H, W)`.
        output: Their translations, of the same shape.
        epsilon: Noise threshold, in intensity per pixel.

    Raises:
        ValueError: If shapes are wrong or differ, or epsilon is not positive.

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
    """Compute realism, faithfulness and one number that combines them; lower is better for all three.

    `unpaired_score` = W(outputs, references) / W(sources, references)
    + weight (E(sources, outputs) - E(sources, sources)) / (1 - E(sources, sources))

    with W the `sliced_wasserstein` distance and E the `edge_disagreement`. Returning the source unchanged scores
    exactly 1: entirely faithful, not translated at all. A realistic image of another patient has a first term near 0
    and a second near the weight. Neither term sees whether each tissue got its right intensity *at its place*: an
    output with the right histogram, the right edges and two tissues exchanged is not noticed.

    Outputs of super-resolution are finer: their realism is compared with that of the interpolated source, and edges on
    the source's pixels, of which each is the mean of the output's.

    Args:
        sources: Slices in [-1, 1], shape `(N, 1, H, W)`.
        outputs: Their translations, of the same shape or finer by a whole factor.
        references: Slices of the target domain, of other patients, as in `sliced_wasserstein`.
        faithfulness_weight: Weight of the second term, >= 0.
        epsilon: Noise threshold of the edges.
        patches: Number of patches drawn from each set at each level.
        seed: Seed of the random patches and directions.

    Returns:
        `sliced_wasserstein`, `edge_disagreement`, `unpaired_score`.

    Raises:
        ValueError: As in the two functions above, or if the weight is negative.
    """
    if faithfulness_weight < 0:
        raise ValueError(f"`faithfulness_weight` must be >= 0, got {faithfulness_weight}.")
    sources, outputs = as_slices(sources, "sources"), as_slices(outputs, "outputs")
    enlarged, reduced = _on_each_grid(sources, outputs)
    distance = sliced_wasserstein(outputs, references, patches=patches, seed=seed)
    untranslated = sliced_wasserstein(enlarged, references, patches=patches, seed=seed)
    disagreement = edge_disagreement(sources, reduced, epsilon=epsilon)
    unavoidable = edge_disagreement(sources, sources, epsilon=epsilon)
    tiny = torch.finfo(torch.float32).eps
    realism = distance / max(untranslated, tiny)
    lost = (disagreement - unavoidable) / max(1.0 - unavoidable, tiny)
    return {
        "sliced_wasserstein": distance,
        "edge_disagreement": disagreement,
        "unpaired_score": realism + faithfulness_weight * lost,
    }


def _on_each_grid(sources: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sources on the grid of the outputs, and the outputs on that of the sources."""
    factor = outputs.shape[-1] // sources.shape[-1]
    if outputs.shape[2:] == sources.shape[2:] or list(outputs.shape[2:]) != [factor * n for n in sources.shape[2:]]:
        return sources, outputs  # equal, or refused by the metrics
    enlarged = functional.interpolate(sources, size=outputs.shape[2:], mode="bilinear", align_corners=False)
    return enlarged, functional.avg_pool2d(outputs, factor)


def unpaired_score(sources: Tensor, outputs: Tensor, references: Slices, *, seed: int = 0) -> float:
    """Return the combined number of `unpaired_metrics`, lower is better; 1 is the untranslated source."""
    return unpaired_metrics(sources, outputs, references, seed=seed)["unpaired_score"]


def normalised_gradient(images: Tensor, *, epsilon: float = 0.15) -> Tensor:
    """Compute n(I) of images `(N, 1, H, W)`: `(N, 2, H - 2, W - 2)` (along W, along H), of length in [0, 1).

    The Sobel kernels give a unit ramp the gradient 1, so `epsilon` is an intensity per pixel.
    """
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=images.dtype) / 8.0
    gradient: Tensor = functional.conv2d(images, torch.stack([kernel, kernel.T])[:, None])
    normalised: Tensor = gradient / (gradient.norm(dim=1, keepdim=True) + epsilon)
    return normalised
