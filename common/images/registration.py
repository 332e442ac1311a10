"""Registration of two volumes of one patient by SimpleITK, which is an extra: affine, then B-spline.

Mattes' mutual information is maximised from coarse to fine. What is measured afterwards (normalised mutual information,
folds of the deformation, voxels from outside of the moving volume) tells a failed registration from a possible one; no
measure without a known truth tells that a registration is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import normalized_mutual_information

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
METHODS = ("affine", "bspline")
INSTALL = "`python -m pip install SimpleITK` (the extra `align`)"
BINS = 32  # of the histograms
AFFINE_MM = (8.0, 4.0, 2.0)  # voxel sizes of the levels of the affine registration
GRID_MM = 32.0  # distance of the control points of the B-spline
SPLINE_MM = 4.0  # voxel size of the B-spline registration
ORDER = 3  # of the B-spline
AFFINE_STEPS, SPLINE_STEPS = 200, 40  # iterations at most
AFFINE_SAMPLES, SPLINE_SAMPLES = 60_000, 2_000_000  # voxels in which the metric is evaluated, at most
FIELD_MM = 4.0  # of the grid on which the deformation is examined
FEWEST_SLICES = 4  # that a level keeps along each axis, where there are so many

FloatArray = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Registration:
    """A transform from the fixed volume's grid to the moving volume, and what was measured of it.

    Attributes:
        transform: SimpleITK's transform of points in LPS mm, from fixed to moving.
        iterations: Iterations of each level, in order.
        start: What the affine registration began with, `header` or `centres`.
    """

    transform: Any
    iterations: tuple[int, ...]
    start: str


@dataclass(frozen=True)
class Deformation:
    """How a transform deforms the fixed volume's body.

    Attributes:
        smallest_jacobian: Smallest determinant of the Jacobian; the deformation folds where it is 0 or less.
        folded: Share of the body where it is 0 or less.
        mean_mm: Mean displacement.
        largest_mm: Largest displacement.
    """

    smallest_jacobian: float
    folded: float
    mean_mm: float
    largest_mm: float


def require_simpleitk() -> Any:
    """Import SimpleITK.

    Raises:
        ValueError: If it is not installed; the message names the extra.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise ValueError(f"registration needs SimpleITK, which is not installed: {INSTALL}.") from error
    return SimpleITK


def register(
    fixed: FloatArray,
    moving: FloatArray,
    *,
    fixed_affine: np.ndarray,
    moving_affine: np.ndarray,
    mask: Mask,
    window: tuple[float, float],
    moving_window: tuple[float, float] | None = None,
    method: str = "bspline",
    grid_mm: float = GRID_MM,
    seed: int = 0,
    step: Callable[[str], None] | None = None,
) -> Registration:
    """Register a moving volume to a fixed one: affine, then, for `bspline`, a free-form deformation.

    The start is what the headers say or, if it makes the volumes more similar, the centres of both on each other. Each
    step of the free-form deformation is a cubic B-spline fitted to the gradient of the metric, which keeps it smooth
    (Tustison, Avants and Gee, "Directly manipulated free-form deformation image registration", IEEE TIP 2009).

    Args:
        fixed: Volume (X, Y, Z).
        moving: Volume (X', Y', Z').
        fixed_affine: Affine of the fixed volume to RAS in mm, (4, 4).
        moving_affine: Affine of the moving volume.
        mask: Voxels (X, Y, Z) of the fixed volume in which both are compared.
        window: Intensities of the fixed volume that are told apart; others are clipped.
        moving_window: Those of the moving volume; default: `window`.
        method: `affine` or `bspline`.
        grid_mm: Distance of the control points.
        seed: Seed of the voxels that are compared.
        step: Called with the name of each level before it begins.

    Raises:
        ValueError: If an argument is out of range, the mask is empty, or the volumes do not overlap.
    """
    sitk = require_simpleitk()
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
    if not grid_mm > 0:
        raise ValueError(f"`grid_mm` must be above 0, got {grid_mm}.")
    if not mask.any():
        raise ValueError(
            "`mask` must have a voxel to compare the volumes in, got none: the fixed volume shows no body."
        )
    images = [
        to_itk(np.clip(values, *limits).astype(np.float32), affine)
        for values, affine, limits in ((fixed, fixed_affine, window), (moving, moving_affine, moving_window or window))
    ]
    pyramid = _Pyramid(images[0], images[1], to_itk(mask.astype(np.uint8), fixed_affine), seed)
    try:
        start, transform = _start(pyramid)
        iterations = []
        for mm in AFFINE_MM:
            if step:
                step(f"affine, {mm:g} mm")
            iterations.append(_fit_affine(pyramid, transform, mm))
        total = sitk.CompositeTransform([transform])
        if method == "bspline":
            if step:
                step(f"B-spline, {grid_mm:g} mm")
            spline, count = _fit_spline(pyramid, transform, grid_mm)
            iterations.append(count)
            total.AddTransform(spline)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise ValueError(
            f"the volumes could not be registered ({why}): they must show the same body region of one patient."
        ) from error
    return Registration(total, tuple(iterations), start)


def resample(
    moving: FloatArray,
    *,
    moving_affine: np.ndarray,
    shape: Sequence[int],
    affine: np.ndarray,
    transform: Any = None,
    padding: float = 0.0,
    valid: Mask | None = None,
) -> tuple[NDArray[np.float32], Mask]:
    """Put a moving volume on another grid, linearly interpolated.

    Args:
        moving: Volume (X', Y', Z').
        moving_affine: Its affine to RAS in mm.
        shape: Shape of the grid, (X, Y, Z).
        affine: Affine of the grid.
        transform: Transform of `Registration`; None: that of the headers.
        padding: Value of voxels from outside of the moving volume.
        valid: Voxels of the moving volume that were measured; default: all.

    Returns:
        Volume and mask (X, Y, Z): where the mask is False there was no measured voxel, and the volume is `padding`.
    """
    sitk = require_simpleitk()
    grid = to_itk(np.zeros(tuple(shape), np.uint8), affine)
    transform = sitk.Transform(3, sitk.sitkIdentity) if transform is None else transform
    image = to_itk(moving.astype(np.float32), moving_affine)
    made = from_itk(sitk.Resample(image, grid, transform, sitk.sitkLinear, float(padding), sitk.sitkFloat32))
    # linear, so that no voxel between a measured and an unmeasured one counts
    measured = to_itk(np.ones(moving.shape, np.float32) if valid is None else valid.astype(np.float32), moving_affine)
    inside = from_itk(sitk.Resample(measured, grid, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)) > 0.999
    return np.where(inside, made, np.float32(padding)), inside


def deformation(transform: Any, *, affine: np.ndarray, mask: Mask) -> Deformation:
    """Examine a transform in the fixed volume's body, on a grid of `FIELD_MM` along the axes of the world.

    Args:
        transform: Transform of `Registration`.
        affine: Affine of the fixed volume to RAS in mm.
        mask: Body (X, Y, Z) of the fixed volume.
    """
    sitk = require_simpleitk()
    voxels = np.argwhere(mask)
    corners = np.array(np.meshgrid(*zip(voxels.min(0), voxels.max(0)))).reshape(3, -1)
    points = (LPS_TO_RAS @ affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    low, high = points.min(axis=1), points.max(axis=1)
    size = [max(3, int(np.ceil(side / FIELD_MM)) + 1) for side in high - low]  # a gradient needs neighbours
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetOrigin(low.tolist())
    grid.SetSpacing([FIELD_MM] * 3)
    body = from_itk(
        sitk.Resample(to_itk(mask.astype(np.uint8), affine), grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    )
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, size, low.tolist(), [FIELD_MM] * 3)
    determinant = from_itk(sitk.DisplacementFieldJacobianDeterminant(field))
    length = from_itk(sitk.VectorMagnitude(field))
    where = body > 0 if (body > 0).any() else np.ones(body.shape, dtype=bool)
    return Deformation(
        smallest_jacobian=float(determinant[where].min()),
        folded=float((determinant[where] <= 0).mean()),
        mean_mm=float(length[where].mean()),
        largest_mm=float(length[where].max()),
    )


def similarity(
    first: FloatArray,
    second: FloatArray,
    *,
    mask: Mask,
    window: tuple[float, float],
    second_window: tuple[float, float] | None = None,
) -> float:
    """Return the normalised mutual information of two volumes on one grid, 1 (independent) to 2 (each tells the other).

    Studholme et al., Pattern Recognition 32, 1999, 71-86: (H(A) + H(B)) / H(A, B).

    Args:
        first: Volume (X, Y, Z).
        second: Volume of the same shape.
        mask: Voxels that count.
        window: Intensities of the first volume that are told apart.
        second_window: Those of the second one; default: `window`.

    Example:
        >>> values = np.arange(27.0).reshape(3, 3, 3)
        >>> round(similarity(values, -values, mask=values >= 0, window=(0, 27), second_window=(-27, 0)), 6)
        2.0
    """
    values = np.clip(first[mask], *window), np.clip(second[mask], *(second_window or window))
    if len(values[0]) == 0 or any(each.min() == each.max() for each in values):
        return 1.0
    return float(normalized_mutual_information(*values, bins=BINS))


def to_itk(values: NDArray[Any], affine: np.ndarray) -> Any:
    """Return a volume (X, Y, Z) with its affine to RAS in mm as an image of SimpleITK, which counts in LPS."""
    sitk = require_simpleitk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    lps = LPS_TO_RAS @ np.asarray(affine, dtype=float)
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(sizes.tolist())
    image.SetDirection((lps[:3, :3] / sizes).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def from_itk(image: Any) -> NDArray[Any]:
    """Return the values (X, Y, Z) of an image of SimpleITK."""
    return np.asarray(require_simpleitk().GetArrayFromImage(image)).T


class _Pyramid:
    """Fixed and moving image and mask at any voxel size."""

    def __init__(self, fixed: Any, moving: Any, mask: Any, seed: int) -> None:
        self.fixed, self.moving, self.mask, self.seed = fixed, moving, mask, seed

    def method(self, mm: float, samples: int = AFFINE_SAMPLES) -> tuple[Any, Any, Any]:
        """Return SimpleITK's registration with metric and mask, and both images, at a voxel size of about `mm`."""
        sitk = require_simpleitk()
        fixed, moving = _coarser(self.fixed, mm), _coarser(self.moving, mm)
        mask = sitk.Resample(self.mask, fixed, sitk.Transform(), sitk.sitkNearestNeighbor)
        count = int(from_itk(mask).sum())
        if count == 0:
            mask, count = sitk.Image(fixed.GetSize(), sitk.sitkUInt8) + 1, fixed.GetNumberOfPixels()
            mask.CopyInformation(fixed)
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(mask)
        if (share := samples / count) < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(share * count / fixed.GetNumberOfPixels(), self.seed + 1)
        method.SetInterpolator(sitk.sitkLinear)
        return method, fixed, moving


def _coarser(image: Any, mm: float) -> Any:
    """Average an image over blocks, so that its voxels are about `mm` large."""
    sitk = require_simpleitk()
    factors = [
        max(1, min(int(mm / size + 0.5), n // min(n, FEWEST_SLICES)))
        for size, n in zip(image.GetSpacing(), image.GetSize())
    ]
    return sitk.BinShrink(image, factors)


def _start(pyramid: _Pyramid) -> tuple[str, Any]:
    """Return the affine transform to begin with and its name."""
    sitk = require_simpleitk()
    fixed, moving = pyramid.fixed, pyramid.moving
    centred = sitk.CenteredTransformInitializer(
        *(fixed, moving, sitk.AffineTransform(3)), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    header = sitk.AffineTransform(3)
    header.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
    found = {}
    for name, transform in (("header", header), ("centres", sitk.AffineTransform(centred))):
        method, *images = pyramid.method(AFFINE_MM[0])
        method.SetInitialTransform(transform)
        try:
            found[name] = method.MetricEvaluate(*images), transform
        except RuntimeError:  # no overlap at all
            continue
    if not found:
        raise RuntimeError("the volumes do not overlap")
    best = min(found, key=lambda name: found[name][0])
    return best, found[best][1]


def _fit_affine(pyramid: _Pyramid, transform: Any, mm: float) -> int:
    """Improve an affine transform in place; return the number of iterations."""
    method, fixed, moving = pyramid.method(mm)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=AFFINE_STEPS, gradientMagnitudeTolerance=1e-7
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return int(method.GetOptimizerIteration())


def _fit_spline(pyramid: _Pyramid, affine: Any, grid_mm: float) -> tuple[Any, int]:
    """Return a deformation from the fixed volume to where `affine` begins, and the number of iterations."""
    sitk = require_simpleitk()
    method, fixed, moving = pyramid.method(SPLINE_MM, SPLINE_SAMPLES)
    identity, vectors = sitk.Transform(3, sitk.sitkIdentity), sitk.sitkVectorFloat64
    place = fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    spline = sitk.DisplacementFieldTransform(sitk.TransformToDisplacementField(identity, vectors, *place))
    points = [max(1, round(n * mm / grid_mm)) + ORDER for n, mm in zip(fixed.GetSize(), fixed.GetSpacing())]
    spline.SetSmoothingBSplineOnUpdate(points, [0, 0, 0], False, ORDER)  # the total field stays as it is
    method.SetOptimizerAsGradientDescent(
        learningRate=1.0,
        numberOfIterations=SPLINE_STEPS,
        convergenceMinimumValue=1e-6,
        convergenceWindowSize=10,
        estimateLearningRate=method.EachIteration,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(spline, inPlace=True)
    method.Execute(fixed, moving)
    return spline, int(method.GetOptimizerIteration())
