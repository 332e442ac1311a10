"""Checks of a translation before it is written: its range, its structure, the jumps between its slices.

A translation is compared with its source on slices of wide pixels, in which noise is averaged out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.grids import PIXEL_MM, axial_last, block_factors, block_mean
from ..metrics.score import BODY_HU, NOT_INVERTED, foreground_mask
from ..transforms.guards.anatomy import MEASURES, SLICE_MM
from ..transforms.guards.findings import PASSED, WARNED, Finding
from ..transforms.unchanged import UnchangedRegion

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.floating[Any]]
ROOM = 64  # slices for which there is room at first
MOST_VOXELS = 2**23  # of the wide pixels of all slices: 512 slices of 512 x 512 pixels of 0.75 mm
SLACK = 0.1  # of the range of values: interpolation carries a change across an edge
INT16 = (-32768.0, 32767.0)
LEAST_EDGES = 0.3
LEAST_OVERLAP = 0.9
LEAST_FLUID = 1.5  # true T2 images have 2.3 or more, FLAIR 0.6 or less
MOST_JUMP = 2.0  # times the source's
MEANING = {
    "range": "it has values that neither the source nor the network's range has",
    "structure": "its edges are not where the source's are",
    "body": "its body is not where the source's is",
    "unchanged": "voxels of padding, or of others that must keep their values, have changed",
    "slices": "neighbouring slices differ more than in the source",
    "fluid": "fluid, black in T1, is not brighter than tissue as it is in every T2",
    "anatomy": "it does not show what the network was made for",
    "contrast": "the contrast was not inverted; T1 and T2 of one patient correlate by -0.65 to -0.2 inside the brain",
}


class OutputCheck:
    """Judge a translation against its source.

    | check | measured | limit |
    |---|---|---|
    | finite | values that are NaN or infinite | none, otherwise refused |
    | range | smallest and largest value | CT: the codec's range and the source's, with a tenth of the codec's width; \
MR: the codec's |
    | structure | correlation of the gradient magnitudes in the body | 0.3 or more |
    | body | Dice's coefficient of both bodies | 0.9 or more |
    | slices | mean jump between neighbouring slices over the source's | 2 or less |
    | unchanged | voxels that had to stay as they are and did not, see `UnchangedRegion` | 0 |
    | contrast | correlation of the values in the middle of the brain, where contrast must be inverted | -0.1 or less |
    | fluid | brightness of the source's dark fluid relative to tissue, where contrast must be inverted | 1.5 or more |
    | anatomy | whether the translation shows the body part that the network was made for | it does |

    Args:
        modality: Modality, `CT` (in HU) or `MR`.
        value_range: Lowest and highest value of the codec, in the output's units.
        unchanged: Region of a CT that must stay as it is.
        part: Body part that a translation must show, see `CheckBodyPartd`; default: any.

    Raises:
        ValueError: If `modality` is neither.
    """

    def __init__(
        self,
        modality: str,
        value_range: Sequence[float],
        *,
        unchanged: UnchangedRegion | None = None,
        part: str | None = None,
    ) -> None:
        if modality not in ("CT", "MR"):
            raise ValueError(f"`modality` must be 'CT' or 'MR', got {modality!r}.")
        self.modality, self.unchanged, self.part = modality, unchanged, part
        self.value_range = float(value_range[0]), float(value_range[1])

    def __call__(
        self, pair: PairedSlices, name: str, *, correlation: float | None = None, fluid: float | None = None
    ) -> list[Finding]:
        """Judge all slices; each doubtful finding is logged as a warning.

        Args:
            pair: Slices of source and translation.
            name: Name of the source, for the messages.
            correlation: Correlation of the values of source and translation, if it must be negative, as from T1 to T2.
            fluid: Brightness of fluid relative to tissue, see `fluid_brightness`, if it must be bright.

        Returns:
            Findings of all checks.

        Raises:
            ValueError: If the translation has values that must not be written, see `refuse`.
        """
        self.refuse(pair, name)
        source, output = pair.volumes()
        bodies = self._body(source), self._body(output)
        either = bodies[0] | bodies[1]
        jumps = slice_jump(source, bodies[0]), slice_jump(output, bodies[0])
        findings = [
            Finding("finite", PASSED, 0, 0),
            self._range(pair),
            _least("structure", edge_agreement(source, output, either), LEAST_EDGES),
            _least("body", overlap(*bodies), LEAST_OVERLAP),
            _most("slices", jumps[1] / jumps[0] if jumps[0] > 0 else 1.0, MOST_JUMP),
        ]
        if self.unchanged is not None:
            findings.append(pair.kept.finding())
        if correlation is not None:
            findings.append(_most("contrast", correlation, NOT_INVERTED))
        if fluid is not None:
            findings.append(_least("fluid", fluid, LEAST_FLUID))
        if self.part is not None and pair.slice_mm is not None:
            doubt = MEASURES[self.part](*pair.thick(output))
            findings.append(Finding("anatomy", WARNED if doubt else PASSED, evidence=doubt))
        for finding in findings:
            if finding.verdict != PASSED:
                measured = finding.evidence or f"measured {finding.value}, limit {finding.limit}"
                logger.warning(
                    f"The translation of {name} is doubtful: {MEANING[finding.check]} ({measured}). Look at it beside"
                    " its source before you use it."
                )
        return findings

    def refuse(self, pair: PairedSlices, name: str) -> None:
        """Refuse a translation whose values must not be written.

        Args:
            pair: Slices of source and translation.
            name: Name of the source, for the messages.

        Raises:
            ValueError: For NaN and infinity, and for CT beyond 16 bits.
        """
        if pair.output.not_finite:
            raise ValueError(
                f"The translation of {name} has {pair.output.not_finite} NaN or infinite values; it was not written."
                " Check the weights, and the values of the image."
            )
        if self.modality == "CT" and not INT16[0] <= pair.output.low <= pair.output.high <= INT16[1]:
            raise ValueError(
                f"The translation of {name} has {pair.output.low:g} to {pair.output.high:g} HU, more than 16 bits hold;"
                " it was not written. Clip the metal of the image to 32767 HU or less."
            )

    def _body(self, volume: np.ndarray) -> np.ndarray:
        return volume > BODY_HU if self.modality == "CT" else foreground_mask(volume)

    def _range(self, pair: PairedSlices) -> Finding:
        low, high = self.value_range
        slack = SLACK * (high - low) if self.modality == "CT" else 1e-3 * (high - low)  # single precision
        if self.modality == "CT":
            low, high = min(low, pair.source.low), max(high, pair.source.high)
        value, limit = (pair.output.low, pair.output.high), (low - slack, high + slack)
        inside = limit[0] <= value[0] and value[1] <= limit[1]
        return Finding("range", PASSED if inside else WARNED, _rounded(value), _rounded(limit))


@dataclass
class Extremes:
    """The smallest and the largest finite value, and the number of values that are not finite."""

    low: float = float("inf")
    high: float = float("-inf")
    not_finite: int = 0

    def add(self, values: np.ndarray) -> None:
        """Include more values."""
        finite = values[np.isfinite(values)]
        self.not_finite += values.size - finite.size
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))


@dataclass
class Kept:
    """The voxels that a translation must leave as they are, and those of them that it changed."""

    voxels: int = 0
    changed: int = 0
    largest: float = 0.0

    def add(self, source: np.ndarray, output: np.ndarray, mask: np.ndarray, finer: int = 1) -> None:
        """Include a slice.

        Args:
            source: Slice (X, Y) of the source.
            output: Translated slice (finer X, finer Y).
            mask: Where the slice (X, Y) must stay as it is.
            finer: Number of the output's pixels along each side of one of the source's.
        """
        fine = (values.repeat(finer, 0).repeat(finer, 1) for values in (source, mask))
        original, kept = fine if finer > 1 else (source, mask)
        difference = np.abs(output[kept] - original[kept].round())
        self.voxels += difference.size
        self.changed += int((difference > 0).sum())
        self.largest = max(self.largest, float(difference.max(initial=0)))

    def finding(self) -> Finding:
        """Return the finding of the check `unchanged`."""
        value = {"voxels": self.voxels, "changed": self.changed, "largest": round(self.largest, 4)}
        return Finding("unchanged", PASSED if self.changed == 0 else WARNED, value, 0)


@dataclass
class PairedSlices:
    """The slices of a source and of its translation in wide pixels, added one by one.

    Args:
        spacing_mm: Pixel size of the source in mm along X and Y.
        finer: Number of the output's pixels along each side of one of the source's.
        source: Extremes of the source.
        output: Extremes of the translation.
        kept: Voxels that must stay as they are.
        slice_mm: Distance between the slices, if known.
        depth: Number of all slices, if known: the pixels of many slices are wider, so that memory stays bounded.

    Example:
        >>> pair = PairedSlices((1.0, 1.0))
        >>> pair.add(np.zeros((6, 6)), np.ones((6, 6)))
        >>> pair.volumes()[1].ravel().tolist(), pair.output.high
        ([1.0, 1.0, 1.0, 1.0], 1.0)
    """

    spacing_mm: Sequence[float]
    finer: int = 1
    source: Extremes = field(default_factory=Extremes)
    output: Extremes = field(default_factory=Extremes)
    kept: Kept = field(default_factory=Kept)
    slice_mm: float | None = None
    depth: int = 1
    factors: tuple[int, int] = (1, 1)  # pixels of the source along the sides of a wide one
    _levels: list[int] = field(default_factory=list)
    _coarse: FloatArray | None = None  # (room, 2, X', Y'): one array, as many small ones would scatter over the memory

    def add(
        self, source: np.ndarray, output: np.ndarray, level: int | None = None, *, kept: np.ndarray | None = None
    ) -> None:
        """Add a slice of the source and its translation.

        Args:
            source: Slice (X, Y) of the source.
            output: Translated slice (finer X, finer Y).
            level: Number of the slice; default: the next one.
            kept: Where the slice (X, Y) must stay as it is.
        """
        if kept is not None:
            self.kept.add(source, output, kept, self.finer)
        if self._coarse is None:
            self.factors = self._factors(source.shape)
        first, second = self.factors
        self.source.add(source)
        self.output.add(output)
        slices = [
            block_mean(np.nan_to_num(image, posinf=0.0, neginf=0.0)[..., None], [first * n, second * n, 1])[..., 0]
            for image, n in ((source, 1), (output, self.finer))
        ]
        self._levels.append(len(self._levels) if level is None else level)
        if self._coarse is None:
            self._coarse = np.empty((max(ROOM, self.depth), 2, *slices[0].shape), dtype=np.float32)
        if len(self._levels) > len(self._coarse):
            self._coarse = np.concatenate([self._coarse, np.empty_like(self._coarse)])
        self._coarse[len(self._levels) - 1] = slices

    def volumes(self) -> tuple[FloatArray, FloatArray]:
        """Return source and translation in wide pixels, (X, Y, Z) each.

        Raises:
            ValueError: If no slice was added.
        """
        if self._coarse is None:
            raise ValueError("a source and its translation can only be compared if a slice was added, got none.")
        ordered = self._coarse[: len(self._levels)]
        if self._levels != sorted(self._levels):
            ordered = ordered[np.argsort(self._levels)]
        return np.moveaxis(ordered[:, 0], 0, -1), np.moveaxis(ordered[:, 1], 0, -1)

    def thick(self, volume: np.ndarray) -> tuple[FloatArray, tuple[float, float, float]]:
        """Average the slices of a volume in wide pixels up to 5 mm, and return it with its voxel size in mm."""
        assert self.slice_mm is not None
        slices = max(1, min(round(SLICE_MM / self.slice_mm), volume.shape[2]))
        sizes = (self.spacing_mm[0] * self.factors[0], self.spacing_mm[1] * self.factors[1], self.slice_mm * slices)
        return block_mean(volume, [1, 1, slices]), sizes

    def _factors(self, shape: Sequence[int]) -> tuple[int, int]:
        pixel_mm, factors = PIXEL_MM, block_factors(shape, self.spacing_mm)
        while self.depth * (shape[0] // factors[0]) * (shape[1] // factors[1]) > MOST_VOXELS and factors != shape:
            pixel_mm *= 2
            factors = block_factors(shape, self.spacing_mm, pixel_mm=pixel_mm)
        return factors


def paired_slices(source: np.ndarray, output: np.ndarray, affine: np.ndarray) -> PairedSlices:
    """Return the axial slices of two volumes on one grid.

    Args:
        source: Source (X, Y, Z), stored in any order.
        output: Translation (X, Y, Z), stored in the same order.
        affine: Affine (4, 4) of both.
    """
    first, sizes = axial_last(source, affine)
    second, _ = axial_last(output, affine)
    pair = PairedSlices(sizes[:2], slice_mm=sizes[2], depth=first.shape[2])
    for level in range(first.shape[2]):
        pair.add(first[:, :, level], second[:, :, level])
    return pair


def edge_agreement(source: np.ndarray, output: np.ndarray, mask: np.ndarray) -> float:
    """Return the correlation of the gradient magnitudes of two volumes inside a mask.

    It is 1 for the same edges, even if the contrast is inverted.

    Args:
        source: Source (X, Y, Z).
        output: Translation (X, Y, Z).
        mask: Boolean mask (X, Y, Z).

    Returns:
        Correlation in [-1, 1]; 1 if both are flat, 0 if one of them is.

    Example:
        >>> ramp = np.linspace(0, 1, 8)[:, None, None] ** 2 * np.ones((8, 8, 2))
        >>> round(edge_agreement(ramp, 1 - ramp, np.ones(ramp.shape, bool)), 6)
        1.0
    """
    first, second = (
        np.concatenate([steepness(volume[..., k])[mask[..., k]] for k in range(mask.shape[2])])
        for volume in (source, output)
    )
    flat = [edges.size < 2 or np.ptp(edges) == 0 for edges in (first, second)]
    if any(flat):
        return float(all(flat))
    first, second = (edges - edges.mean(dtype=np.float64) for edges in (first, second))
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def steepness(image: np.ndarray) -> np.ndarray:
    """Return the magnitude of the gradient of a slice (X, Y), per pixel; 0 along an axis of one pixel."""
    squares = [np.gradient(image, axis=axis) ** 2 for axis in (0, 1) if image.shape[axis] > 1]
    return np.sqrt(np.sum(squares, axis=0)) if squares else np.zeros(image.shape)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return Dice's coefficient of two masks; 1 if both are empty.

    Example:
        >>> overlap(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool)).__round__(3)
        0.667
    """
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def slice_jump(volume: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean |difference between neighbouring slices| inside a mask, over the standard deviation in it.

    Args:
        volume: Volume (X, Y, Z).
        mask: Boolean mask (X, Y, Z), in which both neighbours must lie.

    Returns:
        Mean jump in standard deviations; 0 if there are no neighbours or all values are equal.

    Example:
        >>> slice_jump(np.array([[[0.0, 2.0, 0.0, 2.0]]]), np.ones((1, 1, 4), bool))
        2.0
    """
    both = mask[..., 1:] & mask[..., :-1]
    spread = float(volume[mask].std()) if mask.any() else 0.0
    if spread == 0 or not both.any():
        return 0.0
    return float(np.abs(np.diff(volume, axis=-1))[both].mean()) / spread


def _least(check: str, value: float, limit: float) -> Finding:
    return Finding(check, PASSED if value >= limit else WARNED, round(value, 4), limit)


def _most(check: str, value: float, limit: float) -> Finding:
    return Finding(check, PASSED if value <= limit else WARNED, round(value, 4), limit)


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
