"""Writing of a map of half-widths as a DICOM Parametric Map: one multi-frame instance in the study of its source."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ...files import atomic_write
from ..files import SYNTHETIC_DATA, quiet_pydicom
from ..geometry import Stack
from .headers import (
    EMPTY,
    LONG_TEXT,
    MANUFACTURER,
    Derivation,
    add_date,
    add_equipment,
    between_slices,
    in_plane,
    new_uid,
    series_number_of,
)
from .rules import RESEARCH, DerivedRule
from .voxels import Placement, place

if TYPE_CHECKING:
    from pydicom import Dataset

NO_PROMISE = -1.0  # stored where the map says nothing: outside the foreground, and beyond the mapped range
SHORT_TEXT = 1024  # characters of ST (PS3.5, table 6.2-1)
MAP = "map of half-widths"
PLACED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "PixelSpacing")
NEEDED = "the Parametric Map of `--uncertainty True` with DICOM output is written by highdicom, which is not installed"
CURE = "`pip install 'monai-translation-bundles[dicom]'`, or write NIfTI: `--output_format nifti`"


@dataclass(frozen=True)
class MapText:
    """What a map of half-widths says of itself.

    Args:
        unit: unit of the output, in words.
        hounsfield: whether that is the Hounsfield unit; other intensities have none.
        promise: what is promised of the half-widths, and where that ends, in words.
        series: SeriesInstanceUID of the synthetic series that the map belongs to; None if there is none.
    """

    unit: str
    hounsfield: bool
    promise: str
    series: str | None = None


def require_highdicom() -> None:
    """Refuse, before work starts, to write a map without the package that writes it.

    Raises:
        ModuleNotFoundError: if highdicom is not installed, or is too old to write a map (0.23 is the first).
    """
    try:
        from highdicom.pm import ParametricMap  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError(f"{NEEDED}: {CURE}.") from error


def write_parametric_map(
    half_widths: Any,
    affine: ArrayLike,
    *,
    source: Stack,
    derivation: Derivation,
    rule: DerivedRule,
    text: MapText,
    output_dir: str | Path,
    now: datetime | None = None,
    seed: Sequence[str] | None = None,
) -> Path:
    """Write half-widths as a series of its own, one Parametric Map (PS3.3, A.75), in the source's frame of reference.

    Values are stored in float32, in the unit of the output. Where nothing is promised, outside the foreground, -1 is
    stored, which is the FloatPixelPaddingValue and beyond the range of the real-world values.

    Args:
        half_widths: array (X, Y, Z), NaN where nothing is promised.
        affine: (4, 4) affine, to RAS in mm.
        source: series that the translation was made from.
        derivation: what made the translation.
        rule: rule of what a derived series may say, which names what is kept of the source.
        text: what the map says of itself.
        output_dir: folder of the new series.
        now: date and time of the making; default: now.
        seed: texts from which all new UIDs are computed; default: random UIDs.

    Returns:
        The file, `00001.dcm` in `output_dir`.

    Raises:
        FileExistsError: when `output_dir` exists.
        ModuleNotFoundError: if highdicom is not installed.
        ValueError: when the map does not lie on the source's grid or on a finer one, or promises nothing at all.
    """
    require_highdicom()
    folder = Path(output_dir)
    if folder.exists():
        raise FileExistsError(f"`output_dir` {str(folder)!r} exists already: name a new folder, or remove it.")
    values = np.asarray(half_widths, dtype=np.float32)
    if not np.isfinite(values).any():
        raise ValueError("The map of half-widths has no finite value: nothing is promised of this output.")
    placement = place(affine, values.shape, source)
    with quiet_pydicom():
        made = _made(values, placement, source, derivation, rule, text, now or datetime.now(), seed)
    folder.mkdir(parents=True)
    path = folder / "00001.dcm"
    with atomic_write(path) as partial, quiet_pydicom():
        made.save_as(partial, enforce_file_format=True)
    return path


def _made(
    values: np.ndarray,
    placement: Placement,
    source: Stack,
    derivation: Derivation,
    rule: DerivedRule,
    text: MapText,
    now: datetime,
    seed: Sequence[str] | None,
) -> Dataset:
    import highdicom
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.sr.codedict import codes

    levels = list(placement.slices(values))
    frames = np.ascontiguousarray([pixels for _, pixels in levels], dtype=np.float32)
    largest = float(np.nanmax(frames))
    frames = np.nan_to_num(frames, nan=NO_PROMISE)
    headers = [source.headers[index] for index, _ in levels]
    corners, spacing = zip(*(in_plane(header, placement) for header in headers))
    distance = between_slices(source.affine)
    description = dataclasses.replace(rule, title=f"UNCERTAINTY of {rule.title}").description(derivation.target_name)
    mapping = RealWorldValueMapping(
        lut_label="HALFWIDTH",
        lut_explanation=f"Half-width of the interval, {text.unit}"[:64],
        unit=codes.UCUM.HounsfieldUnit if text.hounsfield else codes.UCUM.NoUnits,
        value_range=(0.0, largest),
        slope=1.0,
        intercept=0.0,
    )
    made: Any = ParametricMap(
        source_images=[_kept(header, rule) for header in headers],
        pixel_array=frames,
        series_instance_uid=new_uid(seed, MAP),
        series_number=series_number_of(source, derivation, MAP),
        sop_instance_uid=new_uid(seed, MAP, "1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=derivation.bundle,
        software_versions=derivation.version,
        device_serial_number=derivation.weights_sha256[:64],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            highdicom.VOILUTTransformation(window_center=largest / 2, window_width=max(largest, 1.0))
        ],
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing=[float(mm) for mm in spacing[0]],
            slice_thickness=float(headers[0].get("SliceThickness") or distance),
            spacing_between_slices=distance if len(headers) > 1 else None,
        ),
        plane_orientation=highdicom.PlaneOrientationSequence(
            "PATIENT", [float(cosine) for cosine in headers[0].ImageOrientationPatient]
        ),
        plane_positions=[highdicom.PlanePositionSequence("PATIENT", [float(mm) for mm in c]) for c in corners],
        content_label="UNCERTAINTY",
        content_description=f"Half-width of the interval; {NO_PROMISE:g}: nothing is promised",
        content_qualification="RESEARCH",
    )
    made.SeriesDescription = description
    made.ImageComments = f"{description}. {text.promise}"[:LONG_TEXT]
    of = "" if text.series is None else f" of series {text.series}"
    made.DerivationDescription = (
        f"Half-widths, {RESEARCH}, not for diagnosis, in {text.unit}, of the interval about the synthetic image{of} by"
        f" {derivation.bundle} {derivation.version}, target {derivation.target_name}. {text.promise}"
    )[:SHORT_TEXT]
    made.FloatPixelPaddingValue = made.FloatPixelPaddingRangeLimit = NO_PROMISE  # a range of one value
    made.add_new(SYNTHETIC_DATA, "CS", "YES")
    for name in ("BodyPartExamined", "Laterality"):
        if headers[0].get(name):
            made[name] = copy.deepcopy(headers[0][name])
    add_date(made, now)
    add_equipment(made, source, derivation, now)
    return made


def _kept(header: Any, rule: DerivedRule) -> Dataset:
    """Return what highdicom may see of a source image: what the rule keeps, and what places the image."""
    from pydicom import Dataset

    image = Dataset()
    for name in (*rule.keep, *PLACED, "ImagePositionPatient"):
        if name in header:
            image[name] = copy.deepcopy(header[name])
    for name in EMPTY:
        if name not in image:
            setattr(image, name, None)
    return image
