"""Source randomisation: one anatomy in the looks of many scanners, on encoded axial slices.

A network that has seen an anatomy under many intensity curves, bias fields, resolutions and noises relies on none of
them (Billot et al., "SynthSeg", Medical Image Analysis 2023, section 3, with a generative model instead of an image).
Background is -1 and stays; foreground lies above `EDGE`, as `StandardizeForegroundd` encodes it. Each takes slices
(1, H, W) or stacks of neighbouring slices (C, H, W), which share one look.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.utils import optional_import
from torch.nn.functional import affine_grid, grid_sample, interpolate

from .standardize import BACKGROUND, EDGE, LOWEST, foreground_ranks

distance_transform_edt, _ = optional_import("scipy.ndimage", name="distance_transform_edt")
gaussian_filter, _ = optional_import("scipy.ndimage", name="gaussian_filter")

FOREGROUND_SLOPE = 1 - LOWEST
CLASSES = 6  # soft tissue classes of a random look
CLASS_WIDTH = 0.03  # squared distance of value and surroundings at which a voxel no longer belongs to a class
SURROUNDINGS = 2.0  # pixels, scale of the mean that counts as a voxel's surroundings
DEFORMED = 24  # pixels between points that are displaced
SHARPEST = 0.3  # pixels; a narrower blur is none
HALF = 0.5
SMALLEST_SHARE = 0.15  # of a rim pixel; below it is background
# Lesions, apart from their radius: depth of their centres below the rim in pixels, share of the way from the tissue to
# the brightest percentile of the target, elongation, width of their edge in pixels, and of their uneven outline.
LESION_DEPTH, LESION_CONTRAST, LESION_BRIGHTEST = 4.0, (0.3, 0.9), 98.0
LESION_ELONGATION, LESION_EDGE, LESION_UNEVEN = (0.5, 1.0), (0.8, 2.5), 0.15


class RandPosed(Randomizable, MapTransform):
    """Rotate, scale, mirror and crop aligned slices alike; the foreground is interpolated without the background.

    Left and right are exchanged in half of the draws, front and back never: in axial slices along R, A and S they are
    the image's two axes.

    Args:
        keys: Keys of aligned images (C, H, W) in [-1, 1], H from left to right and W from back to front.
        size: Height and width of the result, pixels; smaller images are padded with background.
        rotation: Largest angle in radians.
        scaling: Largest relative change of each side.
        deformation: Largest standard deviation of a smooth displacement in pixels, of points `DEFORMED` pixels apart; 0
            draws no random number for it.

    Raises:
        ValueError: If `deformation` is negative.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        *,
        rotation: float = 0.25,
        scaling: float = 0.15,
        deformation: float = 0.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        if deformation < 0:
            raise ValueError(f"`deformation` must be >= 0 pixels, got {deformation}.")
        self.size, self.rotation, self.scaling = [int(n) for n in size], rotation, scaling
        self.deformation = deformation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        shape = torch.as_tensor(item[self.keys[0]]).shape[1:]
        grid = affine_grid(self._draw(shape)[None], [1, 1, *self.size], align_corners=False)
        if self.deformation > 0:
            grid = grid + self._displacement() * 2 / torch.tensor(shape[::-1])
        for key in self.key_iterator(item):
            image = torch.as_tensor(item[key]).as_subclass(torch.Tensor).float()
            item[key] = _resampled(image, grid)
        return item

    def _displacement(self) -> torch.Tensor:
        """Draw a smooth displacement (1, H, W, 2) in pixels."""
        deviation = self.R.uniform(0, self.deformation)
        coarse = self.R.normal(0, deviation, [1, 2, *(n // DEFORMED + 2 for n in self.size)])
        field = interpolate(torch.from_numpy(coarse).float(), size=self.size, mode="bicubic", align_corners=True)
        return field.movedim(1, -1)

    def _draw(self, shape: Sequence[int]) -> torch.Tensor:
        """Draw the matrix (2, 3) from the result's to the image's normalised coordinates (x, y)."""
        angle = self.R.uniform(-self.rotation, self.rotation)
        scales = 1 + self.R.uniform(-self.scaling, self.scaling, 2)
        mirrored = -1 if self.R.random() < HALF else 1
        cosine, sine = np.cos(angle), np.sin(angle)
        # The second coordinate (y) runs along H, on which MONAI's RAS images have left and right.
        pixels = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([scales[0], scales[1] * mirrored])
        to_pixels, from_pixels = np.array(self.size[::-1]) / 2, 2 / np.array(shape[::-1], dtype=float)
        room = np.maximum(0, np.array(shape[::-1]) - np.array(self.size[::-1])) / 2
        shift = self.R.uniform(-1, 1, 2) * room * from_pixels
        matrix = from_pixels[:, None] * pixels * to_pixels
        return torch.as_tensor(np.concatenate([matrix, shift[:, None]], axis=1), dtype=torch.float32)


class RandScannedd(Randomizable, MapTransform):
    """Show a pair as another scanner would: blur, noise and an offset, the same in source and target.

    What the target adds to the source is blurred with it and otherwise stays: a network learns to add it, and not to
    remove noise.

    Args:
        source: Key of an image (C, H, W) in [-1, 1], axial slices as channels.
        target: Key of the aligned image.
        blur: Largest standard deviation of the blur, pixels.
        noise: Largest standard deviation of the noise, in [-1, 1].
        grain: Largest standard deviation of the blur of the noise, pixels.
        offset: Largest offset in either direction, in [-1, 1].

    Raises:
        ValueError: If one of them is negative.
    """

    def __init__(
        self,
        source: str = "source",
        target: str = "target",
        *,
        blur: float = 0.6,
        noise: float = 0.12,
        grain: float = 1.0,
        offset: float = 0.05,
    ) -> None:
        MapTransform.__init__(self, [source, target])
        if min(blur, noise, grain, offset) < 0:
            raise ValueError(f"None may be negative, got {blur=}, {noise=}, {grain=}, {offset=}.")
        self.source, self.target = source, target
        self.blur, self.noise, self.grain, self.offset = blur, noise, grain, offset

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        source, target = (
            torch.as_tensor(item[key]).as_subclass(torch.Tensor).float().numpy() for key in (self.source, self.target)
        )
        added = target - source
        scale = self.R.uniform(0, self.blur)
        look = source
        if scale > SHARPEST:
            look, added = (gaussian_filter(image, (0, scale, scale), truncate=3.0) for image in (source, added))
        deviation, grain = self.R.uniform(0, self.noise), self.R.uniform(SHARPEST, max(SHARPEST, self.grain))
        noise = gaussian_filter(self.R.normal(size=source.shape).astype(np.float32), (0, grain, grain), truncate=3.0)
        look = look + noise * (deviation / max(float(noise.std()), 1e-6)) + self.R.uniform(-self.offset, self.offset)
        look = np.where(source > BACKGROUND, look, BACKGROUND).clip(-1, 1)
        item[self.source] = torch.from_numpy(look.astype(np.float32))
        item[self.target] = torch.from_numpy((look + added).clip(-1, 1).astype(np.float32))
        return item


class RandRimd(Randomizable, MapTransform):
    """Cut the rim of the foreground off, as removal of the skull does, and let it fade into the background.

    Where a brain was extracted before it was resampled, its outermost voxels are partly background: dark in every
    contrast, and no fluid. How much is cut varies smoothly along the rim.

    Args:
        source: Key of an image (C, H, W), foreground from -0.9 to 1.
        target: Key of the aligned image in [-1, 1], proportional to intensity.
        prob: Probability that a rim is changed.
        depth: Largest depth that is cut off, pixels.
        width: Largest scale of the transition, pixels.
    """

    def __init__(
        self,
        source: str = "source",
        target: str = "target",
        *,
        prob: float = 0.6,
        depth: float = 4.0,
        width: float = 1.0,
    ) -> None:
        MapTransform.__init__(self, [source, target])
        self.source, self.target, self.prob, self.depth, self.width = source, target, prob, depth, width

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if self.R.random() < self.prob:
            source, target = (
                torch.as_tensor(item[key]).as_subclass(torch.Tensor).float() for key in (self.source, self.target)
            )
            share = self._share((source > EDGE).numpy())
            inside = (source > EDGE) & (share > SMALLEST_SHARE)
            item[self.source] = torch.where(inside, (source - LOWEST) * share + LOWEST, BACKGROUND)
            item[self.target] = torch.where(inside, (target - BACKGROUND) * share + BACKGROUND, BACKGROUND)
        return item

    def _share(self, mask: np.ndarray) -> torch.Tensor:
        """Draw the share (C, H, W) of each pixel that stays: from 0 outside to 1 inside."""
        if mask.all():  # there is no rim
            return torch.ones(*mask.shape)
        size = mask.shape[1:]
        coarse = torch.from_numpy(self.R.uniform(0, 1, [1, 1, *(n // 16 + 2 for n in size)])).float()
        uneven = interpolate(coarse, size=list(size), mode="bilinear", align_corners=True)[0, 0].numpy()
        cut = self.R.uniform(0, self.depth) * uneven
        scale = self.R.uniform(0.3, self.width)
        return torch.from_numpy(np.stack([self._faded(slice_, cut, scale) for slice_ in mask]))

    @staticmethod
    def _faded(mask: np.ndarray, cut: np.ndarray, scale: float) -> np.ndarray:
        depth = distance_transform_edt(np.pad(mask, 1, constant_values=True))  # the image's border is no rim
        kept = (depth[1:-1, 1:-1] > cut) & mask
        return np.asarray(gaussian_filter(kept.astype(np.float32), scale, truncate=3.0))


class RandLesiond(Randomizable, MapTransform):
    """Put soft blobs into the tissue, bright in the target and hardly or moderately darker in the source.

    They look like lesions of the white matter in T2 and T1. Their centres lie below the rim where the target is darker
    than its median, as white matter in T2; fluid, which is brighter than they are, stays. A blob reaches through as
    many neighbouring slices as its size allows.

    Args:
        source: Key of an image (C, H, W), foreground from -0.9 to 1, axial slices as channels.
        target: Key of the aligned image in [-1, 1].
        prob: Probability that a pair is changed; 0 draws no random number at all.
        number: Largest number of blobs.
        radius: Range of their larger radius, pixels.
        dark: Largest share of a source's value above the darkest foreground that a blob takes away.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    def __init__(
        self,
        source: str = "source",
        target: str = "target",
        *,
        prob: float = 0.5,
        number: int = 8,
        radius: Sequence[float] = (1.5, 7.0),
        dark: float = 0.5,
    ) -> None:
        MapTransform.__init__(self, [source, target])
        if not 0 <= prob <= 1:
            raise ValueError(f"`prob` must lie in [0, 1], got {prob}.")
        if number < 1:
            raise ValueError(f"`number` must be >= 1, got {number}: for none, `prob=0`.")
        if not (len(radius) == 2 and 0 < radius[0] <= radius[1]):
            raise ValueError(f"`radius` must be two rising numbers > 0 (pixels), got {list(radius)}.")
        if not 0 <= dark <= 1:
            raise ValueError(f"`dark` must lie in [0, 1], got {dark}.")
        self.source, self.target = source, target
        self.prob, self.number, self.radius, self.dark = prob, number, [float(r) for r in radius], dark

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if self.prob > 0 and self.R.random() < self.prob:
            source, target = (
                torch.as_tensor(item[key]).as_subclass(torch.Tensor).float().numpy().copy()
                for key in (self.source, self.target)
            )
            self._paint(source, target)
            item[self.source], item[self.target] = torch.from_numpy(source), torch.from_numpy(target)
        return item

    def _paint(self, source: np.ndarray, target: np.ndarray) -> None:
        """Draw lesions into both images, in place."""
        mask = (source > EDGE) & (target > BACKGROUND)
        if not mask.any():
            return
        middle, brightest = np.percentile(target[mask], [50.0, LESION_BRIGHTEST])
        deep = np.stack([distance_transform_edt(np.pad(slice_, 1, constant_values=True)) for slice_ in mask])
        places = np.argwhere(mask & (deep[:, 1:-1, 1:-1] > LESION_DEPTH) & (target <= middle))
        for _ in range(self.R.randint(1, self.number + 1) if len(places) else 0):
            centre = places[self.R.randint(len(places))]
            bright = target[tuple(centre)] + self.R.uniform(*LESION_CONTRAST) * (brightest - target[tuple(centre)])
            share = self._share(mask.shape, centre) * (mask & (target < bright))
            source -= share * (source - LOWEST) * self.R.uniform(0, self.dark)
            target += share * (bright - target)

    def _share(self, shape: Sequence[int], centre: np.ndarray) -> np.ndarray:
        """Draw the share (C, H, W) of each pixel that one lesion around `centre` fills."""
        slices, rows, columns = (
            axis - place for axis, place in zip(np.ogrid[tuple(map(slice, shape))], centre, strict=True)
        )
        radius = np.exp(self.R.uniform(*np.log(self.radius)))
        across, along = radius * self.R.uniform(*LESION_ELONGATION, 2)
        angle, *phases = self.R.uniform(0, 2 * np.pi, 3)
        u, v = np.cos(angle) * rows + np.sin(angle) * columns, np.cos(angle) * columns - np.sin(angle) * rows
        outline = 1 + sum(LESION_UNEVEN * np.sin(n * np.arctan2(v, u) + phase) for n, phase in enumerate(phases, 2))
        distance = np.sqrt((u / radius) ** 2 + (v / across) ** 2 + (slices / along) ** 2) / outline
        edge = self.R.uniform(*LESION_EDGE)
        return np.asarray(np.clip((1 - distance) * radius / edge + HALF, 0, 1), dtype=np.float32)


class RandInverseLookd(Randomizable, MapTransform):
    """Replace a source by a random look of its target: what a source may look like, without any pair.

    The intensities of the target fall through a random curve and are offset by tissue: soft classes of value and
    surroundings, each by its own amount. A network that maps these back has learnt the target from whatever T1-like
    contrast; the curve alone would teach it only to invert.

    Args:
        source: Key of the image that is replaced.
        target: Key of the aligned target image (C, H, W) in [-1, 1].
        prob: Probability; 1 uses no source at all.
        offset: Largest standard deviation of the tissues' offsets, in ranks.

    Raises:
        ValueError: If `prob` lies outside [0, 1].
    """

    def __init__(
        self, source: str = "source", target: str = "target", *, prob: float = 1.0, offset: float = 0.2
    ) -> None:
        MapTransform.__init__(self, [source, target])
        if not 0 <= prob <= 1:
            raise ValueError(f"`prob` must lie in [0, 1], got {prob}.")
        self.source, self.target, self.prob, self.offset = source, target, prob, offset

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if self.R.random() < self.prob:
            image = torch.as_tensor(item[self.target]).as_subclass(torch.Tensor).numpy()
            item[self.source] = torch.from_numpy(self._look(image))
        return item

    def _look(self, image: np.ndarray) -> np.ndarray:
        mask = image > BACKGROUND
        look = np.full(image.shape, BACKGROUND, dtype=np.float32)
        if not mask.any():
            return look
        ranks = np.zeros(image.shape, dtype=np.float32)
        ranks[mask] = foreground_ranks(image[mask])
        around = _blurred(ranks, mask, SURROUNDINGS)[mask]
        values = ranks[mask]
        inverted = 1 - np.interp(values, *random_curve(self.R))
        centres = self.R.uniform(0, 1, (CLASSES, 2))
        offsets = self.R.normal(0, self.R.uniform(0, self.offset), CLASSES)
        member = np.exp(-((values - centres[:, :1]) ** 2 + (around - centres[:, 1:]) ** 2) / CLASS_WIDTH)
        inverted = inverted + offsets @ (member / (member.sum(axis=0) + 1e-3))
        look[mask] = LOWEST + FOREGROUND_SLOPE * foreground_ranks(inverted)
        return look


class RandLookd(Randomizable, MapTransform):
    """Show encoded slices as other scanners might: random intensity curve, bias field, resolution and noise.

    The result has again ranks as intensities, either evenly spread or, in half of the draws, as the slice had them, and
    bent by a mild curve, as other shares of air, skull or fluid in the field of view would bend them.

    Args:
        keys: Keys of images (C, H, W), foreground from -0.9 to 1.
        prob: Probability that an image is changed.
        curve: Largest weight of the random rising curve, 0 to 1.
        bias: Largest standard deviation of the logarithm of the bias field.
        bias_scale: Range of the field's wavelength, pixels.
        blur: Largest scale of the Gaussian blur, pixels.
        noise: Largest standard deviation of the noise, of the range of ranks.
        bend: Largest weight of the mild curve at the end.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 1.0,
        curve: float = 1.0,
        bias: float = 0.15,
        bias_scale: Sequence[float] = (30.0, 90.0),
        blur: float = 1.0,
        noise: float = 0.06,
        bend: float = 0.3,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.prob, self.curve, self.bias, self.bias_scale = prob, curve, bias, [float(s) for s in bias_scale]
        self.blur, self.noise, self.bend = blur, noise, bend

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            if self.R.random() < self.prob:
                image = torch.as_tensor(item[key]).as_subclass(torch.Tensor).numpy()
                item[key] = torch.from_numpy(self._look(image))
        return item

    def _look(self, image: np.ndarray) -> np.ndarray:
        mask = image > EDGE
        look = np.full(image.shape, BACKGROUND, dtype=np.float32)
        if not mask.any():
            return look
        before = (image[mask] - LOWEST) / FOREGROUND_SLOPE
        share = self.R.uniform(0, self.curve)
        values = np.zeros(image.shape, dtype=np.float32)
        values[mask] = (1 - share) * before + share * np.interp(before, *random_curve(self.R))
        values *= np.exp(self._field(image.shape[1:]))
        scale = self.R.uniform(0, self.blur)
        if scale > SHARPEST:
            values = _blurred(values, mask, scale)
        noisy = values[mask] + self.R.normal(0, self.R.uniform(0, self.noise), int(mask.sum()))
        ranks = foreground_ranks(noisy)
        if self.R.random() < HALF:
            ranks = np.interp(ranks, (np.arange(before.size) + HALF) / before.size, np.sort(before))
        share = self.R.uniform(0, self.bend)
        ranks = (1 - share) * ranks + share * np.interp(ranks, *random_curve(self.R))
        look[mask] = LOWEST + FOREGROUND_SLOPE * np.clip(ranks, 0, 1)
        return look

    def _field(self, shape: Sequence[int]) -> np.ndarray:
        deviation, scale = self.R.uniform(0, self.bias), self.R.uniform(self.bias_scale[0], self.bias_scale[1])
        coarse = torch.from_numpy(self.R.normal(0, deviation, [1, 1, *(max(2, round(n / scale) + 2) for n in shape)]))
        return interpolate(coarse.float(), size=list(shape), mode="bicubic", align_corners=True)[0, 0].numpy()


def random_curve(rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Draw a rising, piecewise linear curve from (0, 0) to (1, 1) with 3 to 6 pieces: its x and y."""
    pieces = int(rng.randint(3, 7))
    steps = rng.dirichlet(np.full(pieces, rng.uniform(1.0, 4.0)))
    return np.linspace(0, 1, pieces + 1), np.concatenate([[0.0], np.cumsum(steps)])


def _blurred(values: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    """Return the Gaussian mean over the foreground alone, within each slice of (C, H, W)."""
    scales = (0, scale, scale)
    weight = gaussian_filter(mask.astype(np.float32), scales, truncate=3.0)
    mean = gaussian_filter(np.where(mask, values, 0).astype(np.float32), scales, truncate=3.0)
    return np.asarray(mean / np.maximum(weight, 1e-3))


def _resampled(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Resample (C, H, W) at a grid (1, H', W', 2); a pixel is foreground if more than half of it is."""
    mask = (image > BACKGROUND).float()
    pair = torch.cat([(image - BACKGROUND) * mask, mask])[None]
    value, weight = grid_sample(pair, grid, align_corners=False)[0].chunk(2)
    return torch.where(weight > HALF, value / weight.clamp_min(HALF) + BACKGROUND, BACKGROUND)
