"""Hypothesis strategies for volumes as they lie in files: affines, shapes, types, slopes and intercepts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

TYPES = ("int16", "uint16", "int32", "float32", "float64")
TIMES_MORE = 10 * int(os.environ.get("HYPOTHESIS", "1"))
FEWEST_VOXELS = 64  # an image of few distinct whole numbers is refused as a label map
UNCHECKED = [HealthCheck.too_slow, HealthCheck.data_too_large]


@dataclass(frozen=True)
class Stored:
    """A NIfTI file's content: value = slope * raw + intercept."""

    raw: NDArray[Any]
    affine: NDArray[np.float64]
    slope: float
    intercept: float

    def save(self, path: Path) -> Path:
        image = nib.Nifti1Image(self.raw, self.affine, dtype=self.raw.dtype)
        image.header.set_slope_inter(self.slope, self.intercept)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        return path

    @property
    def values(self) -> NDArray[np.float32]:
        """By the formula of the NIfTI standard, whose slope and intercept are of single precision."""
        scaled = self.raw.astype(np.float64) * np.float32(self.slope) + np.float32(self.intercept)
        return scaled.astype(np.float32)


def rounds(few: int) -> Callable:
    """Runs a test that takes `examples` with a few of them in `make test`, and with many in `make test-faults`."""
    many = pytest.param(few * TIMES_MORE, marks=pytest.mark.faults, id="many")
    return pytest.mark.parametrize("examples", [pytest.param(few, id="few"), many])


def for_all(examples: int, holds: Callable[[Any], None], strategy: st.SearchStrategy) -> None:
    """Checks a property of this many reproducible examples, up to the first that lacks it, which is not shrunk."""
    chosen = settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=UNCHECKED,
    )
    chosen(given(strategy)(holds))()


@st.composite
def affines(draw: st.DrawFn, *, spacing: tuple[float, float] = (0.5, 6.0), shear: bool = True) -> NDArray[np.float64]:
    """Any order and direction of axes, tilted up to 40 degrees, anisotropic, sheared a little; (4, 4) to RAS in mm."""
    axes = np.eye(3)[draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    angles = draw(st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(*[st.floats(-40, 40)] * 3)))
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        first, second = [n for n in range(3) if n != axis]
        step = np.eye(3)
        step[[first, second], [first, second]] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    slant = np.eye(3)
    slant[0, 1], slant[1, 2] = draw(st.tuples(*[st.floats(-0.08, 0.08)] * 2)) if shear else (0.0, 0.0)
    sizes = np.round(draw(st.tuples(*[st.floats(*spacing)] * 3)), 3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ slant @ axes @ np.diag(sizes)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return affine


@st.composite
def shapes(draw: st.DrawFn, *, least: int = 1, largest: int = 14) -> tuple[int, int, int]:
    """Odd, flat, one slice along any axis, tiny."""
    sizes = st.tuples(*[st.integers(least, largest)] * 3)
    return draw(sizes.filter(lambda shape: int(np.prod(shape)) >= FEWEST_VOXELS))


@st.composite
def ct(draw: st.DrawFn, *, least: int = 1, whole: bool = False, shear: bool = True) -> Stored:
    """Values from air to bone, maybe with padding outside of the circle and with metal, in HU."""
    kind = "int16" if whole else draw(st.sampled_from(TYPES))
    unsigned = kind == "uint16"
    slope = 1.0 if whole else draw(st.sampled_from((1.0, 0.5, 0.25, 2.0, 0.7) + (() if unsigned else (-1.0,))))
    intercept = draw(st.sampled_from((-1000.0, -1024.0, -3024.0, -8192.0) if unsigned else (0.0, -1000.0, -1024.0)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hu = random.uniform(-1024, 3071, draw(shapes(least=least)))
    for extreme in draw(st.lists(st.sampled_from((-3024.0, -2048.0, 3100.0, 8000.0, 30000.0)), max_size=2)):
        hu[random.random(hu.shape) < 0.1] = extreme
    hu.flat[0] = -1000.0
    raw = _stored((hu - intercept) / slope, kind)
    return Stored(raw, draw(affines(shear=shear)), slope, intercept)


@st.composite
def mr(draw: st.DrawFn, *, spacing: tuple[float, float] = (0.5, 6.0), shear: bool = True) -> Stored:
    """Magnitudes."""
    kind = draw(st.sampled_from(TYPES))
    slope = draw(st.sampled_from((1.0, 0.5, 2.0, 0.037)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    magnitude = random.gamma(2.0, draw(st.sampled_from((100.0, 2000.0))), draw(shapes()))
    return Stored(_stored(magnitude / slope, kind), draw(affines(spacing=spacing, shear=shear)), slope, 0.0)


def _stored(values: NDArray[np.float64], kind: str) -> NDArray[Any]:
    if kind.startswith("float"):
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
