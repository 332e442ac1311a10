"""Writing of a translated volume as NIfTI, as DICOM or as both, checked and with its sidecar.

All files of an output appear together or not at all. The DICOM series is written from the NIfTI file.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform

from ..dicom.derived.headers import Derivation
from ..dicom.derived.maps import MapText, write_parametric_map
from ..dicom.derived.rules import DerivedRule, derived_rule
from ..dicom.derived.series import write_derived_series
from ..dicom.derived.source import read_source_series
from ..dicom.geometry import Stack
from ..dicom.headers import read_header
from ..dicom.reader import source_files
from ..errors import ImpossibleError, disk_full_names
from ..files import Staging, write_json
from ..images.grids import MOST_VOXELS, planes
from ..images.names import MAP_SUFFIX, SOURCE, file_name, source_path, target_name
from ..images.nifti import VOLUME_SUFFIXES
from ..images.writing import save_volume
from ..memory import available_memory
from ..transforms.guards.findings import Finding, noted
from ..transforms.guards.kernel import kernel_found
from ..transforms.streaming import counted
from ..uncertainty import paired
from .fluid import Inversion
from .output_check import OutputCheck, paired_slices
from .sidecar import RunRecord, doubted, sidecar

logger = logging.getLogger(__name__)
MAP_BYTES = 24  # per voxel of an output, which is held in memory several times while its map is made
NOT_LOCATED = "A small half-width does not mean that a voxel is right."
NIFTI, DICOM, BOTH = "nifti", "dicom", "both"
FORMATS = (NIFTI, DICOM, BOTH)
CURE = (
    "needs a DICOM source, whose patient, study and frame of reference the new series takes over, but {name} is none:"
    " give its DICOM series, or `--output_format nifti`."
)


def check_output_format(output_format: str, images: Sequence[Mapping[str, Any]], *, key: str = "image") -> None:
    """Refuse, before work starts, a format that the sources do not allow.

    Args:
        output_format: Output format, `nifti`, `dicom` or `both`.
        images: Data items with the paths of the sources, see `find_images`.
        key: Key of the path in an item.

    Raises:
        ValueError: If the format is none of the three, or a source is NIfTI although DICOM is requested.

    Example:
        >>> check_output_format("dicom", [{"image": "scan.nii.gz"}])
        Traceback (most recent call last):
        ...
        ValueError: `output_format` 'dicom' needs a DICOM source, whose patient, study and frame of reference the new \
series takes over, but 'scan.nii.gz' is none: give its DICOM series, or `--output_format nifti`.
    """
    _check_known(output_format)
    for item in images if output_format != NIFTI else ():
        if str(item[key]).lower().endswith(VOLUME_SUFFIXES):
            raise ValueError(f"`output_format` {output_format!r} {CURE.format(name=repr(str(item[key])))}")


class CheckSourceSeriesd(MapTransform):
    """Refuse, before it is translated, an image to whose source no derived series could refer.

    Args:
        keys: Keys of loaded volumes.
        output_format: Output format, `nifti`, `dicom` or `both`; with `nifti` every image passes.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If the format is none of the three.
        ImpossibleError: When called, for a source that is not one evenly spaced series of single-frame DICOM images,
            see `read_source_series`, which the writer uses as well.
    """

    def __init__(self, keys: KeysCollection, output_format: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        _check_known(output_format)
        self.output_format = output_format

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.output_format != NIFTI:
            for key in self.key_iterator(dict(data)):
                try:
                    _source_series(data[key], self.output_format)
                except ValueError as error:
                    raise ImpossibleError(f"{error} Or write NIfTI: `--output_format nifti`.") from error
        return dict(data)


def write_dicom(
    nifti: Path,
    folder: Path,
    source: Any,
    record: RunRecord,
    *,
    output_format: str = DICOM,
    doubts: Sequence[str] | None = None,
) -> Path:
    """Write a translation as a DICOM series derived from its source.

    Args:
        nifti: File of the translation.
        folder: Folder of the new series, which must not exist.
        source: Volume that was translated, whose meta data name its DICOM files.
        record: Provenance record of this run.
        output_format: Output format as the user gave it, for messages.
        doubts: What the checks doubted, in words, see `Derivation`.

    Returns:
        Folder of the new series.

    Raises:
        ValueError: If the series cannot be written, see `write_derived_series`.
    """
    image: Any = nib.load(nifti)  # type: ignore[attr-defined]
    # A super-resolved volume may exceed the memory, so slices are read one by one; a compressed file cannot be.
    volume = np.asarray(image.dataobj) if nifti.suffix == ".gz" else image.dataobj
    write_derived_series(
        volume,
        image.affine,
        source=_source_series(source, output_format),
        derivation=_derivation(record, doubts),
        rule=derived_rule(record.root),
        output_dir=folder,
    )
    return folder


def _derivation(record: RunRecord, doubts: Sequence[str] | None) -> Derivation:
    return Derivation(record.bundle, record.version, record.weights_sha256, record.target, doubts)


def _source_series(image: Any, output_format: str) -> Stack:
    files = source_files(getattr(image, "meta", {}))
    if not files:
        raise ValueError(f"`output_format` {output_format!r} {CURE.format(name=file_name(image))}")
    return read_source_series(files)


def _check_known(output_format: str) -> None:
    if output_format not in FORMATS:
        raise ValueError(f"`output_format` must be one of {', '.join(FORMATS)}, got {output_format!r}.")


class SaveOutputd(MapTransform):
    """Write translations (1, X, Y, Z) on their sources' grid as `<source's name>_synthetic_<target>`.

    The suffix is `.nii.gz` for NIfTI, `.json` for the sidecar, and none for the folder of a DICOM series. All of them
    appear together after the output was checked; on an error none does.

    Args:
        keys: Keys of translations, in the units in which they are stored.
        record: Provenance record of this run.
        check: Check of the translations.
        output_dir: Folder of the outputs.
        data_root_dir: Folder below which the sources' subfolders are kept in `output_dir`.
        source_key: Key of the unchanged source volume on the same grid.
        dtype: Data type of the NIfTI file; for whole numbers the values must be rounded already.
        output_format: Output format, `nifti`, `dicom` or `both`.
        inverts: Whether the contrast must be inverted, as from T1 to T2.
        percentiles: Lower and upper percentile between which the source was encoded; voxels beyond are counted.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: When called, for an output that must not be written.
    """

    def __init__(
        self,
        keys: KeysCollection,
        record: RunRecord,
        check: OutputCheck,
        *,
        output_dir: str | Path,
        data_root_dir: str | Path,
        source_key: str = "original",
        dtype: str = "float32",
        output_format: str = NIFTI,
        inverts: bool = False,
        percentiles: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.record, self.check = record, check
        self.output_dir, self.data_root_dir = Path(output_dir), str(data_root_dir)
        self.source_key, self.dtype, self.output_format = source_key, dtype, output_format
        self.inverts, self.percentiles = inverts, percentiles

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            findings, more = self._judged(item[self.source_key], item[key])
            with disk_full_names(self.output_dir), Staging(self.output_dir) as staging:
                save = save_volume(
                    str(staging.folder),
                    self.record.target,
                    data_root_dir=self.data_root_dir,
                    dtype=self.dtype,
                    key=str(key),
                )
                staged = Path(save({key: item[key]})[key].meta["saved_to"])
                published = publish_output(
                    staging,
                    staged,
                    item[self.source_key],
                    self.record,
                    output_format=self.output_format,
                    findings=findings,
                    **more,
                )
            item[key].meta["saved_to"] = str(published[0])
        return item

    def _judged(self, source: Any, output: Any) -> tuple[list[Finding], dict[str, Any]]:
        first, second = (torch.as_tensor(image)[0].cpu().numpy() for image in (source, output))
        pair = paired_slices(first, second, np.asarray(source.affine, dtype=float))
        measured: dict[str, float | None] = {}
        if self.inverts:
            inversion = Inversion(source)
            inversion.add(first, second, 0)
            measured = inversion.measures()
        findings = self.check(pair, file_name(source), **measured)
        clipped = {} if self.percentiles is None else {"clipped_voxels": clipped_voxels(first, self.percentiles)}
        return findings, clipped


def then_save(postprocessing: Callable, save: SaveOutputd) -> Callable:
    """Return a postprocessing that ends with saving; one that saves already, as in earlier versions, is left as it is.

    Args:
        postprocessing: Transform, or sequence of transforms.
        save: Transform that writes the output.
    """
    if save in getattr(postprocessing, "transforms", ()):
        return postprocessing
    return Compose([postprocessing, save])


def publish_output(
    staging: Staging,
    nifti: Path,
    source: Any,
    record: RunRecord,
    *,
    output_format: str,
    findings: Sequence[Finding],
    **more: Any,
) -> list[Path]:
    """Add the sidecar and, if requested, DICOM series and map of half-widths to a staged NIfTI file, and publish them.

    The sidecar is published first, so that no output is ever without it.

    Args:
        staging: Staging folder that holds the file.
        nifti: File of the translation.
        source: Volume that was translated, a MetaTensor.
        record: Provenance record of this run.
        output_format: Output format, `nifti`, `dicom` or `both`.
        findings: Findings of the output's checks.
        more: Further facts for the sidecar.

    Returns:
        Paths of the outputs, followed by that of the sidecar.
    """
    name = nifti.name.removesuffix(".gz").removesuffix(".nii")
    outputs = [] if output_format == DICOM else [nifti]
    folder = nifti.with_name(name)
    doubts = doubted([*noted(source), *(finding.as_dict() for finding in findings)])
    if output_format in (DICOM, BOTH):
        outputs.append(write_dicom(nifti, folder, source, record, output_format=output_format, doubts=doubts))
    if record.uncertainty is not None:
        path, summary = write_uncertainty(nifti, source, record)
        if output_format != DICOM:
            outputs.append(path)
        if output_format in (DICOM, BOTH):
            stack, made_by = _source_series(source, output_format), _derivation(record, doubts)
            outputs.append(write_dicom_map(path, folder, stack, made_by, derived_rule(record.root), summary))
        more = {"uncertainty": summary, **more}
    if (kernel := kernel_found(source)) is not None:
        more = {"source_kernel": kernel, **more}
    facts = sidecar(record, sources=_sources(source), outputs=outputs, guards=noted(source), findings=findings, **more)
    beside = write_json(nifti.with_name(f"{name}.json"), facts)
    first, *others = staging.publish([beside, *outputs])
    record.published.append([*others, first])
    return [*others, first]


def write_uncertainty(nifti: Path, source: Any, record: RunRecord) -> tuple[Path, dict[str, Any]]:
    """Write the half-widths of a staged output beside it, on its grid and in its units.

    Args:
        nifti: File of the translation.
        source: Source (1, X, Y, Z) in its own units, a MetaTensor.
        record: Provenance record of this run, whose `uncertainty` is known.

    Returns:
        Path of the map, a float32 NIfTI file, and the summary for the sidecar.

    Raises:
        ValueError: If this direction was not calibrated, or the volume does not fit into the memory.
    """
    assert record.uncertainty is not None
    domain = source.meta.get(SOURCE) if hasattr(source, "meta") else None
    calibrated = record.uncertainty.of(None if domain is None else str(domain), target_name(record.target))
    image: Any = nib.load(nifti)  # type: ignore[attr-defined]
    needed, free = MAP_BYTES * math.prod(image.shape), available_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"The uncertainty of {file_name(source)} would take {needed / 1e9:.3g} GB of memory for {image.shape}"
            f" voxels, {free / 1e9:.3g} GB are free: leave `--uncertainty` out, or translate a part of the volume."
        )
    half_widths, summary = record.uncertainty.measure(
        paired(
            torch.as_tensor(source)[0].cpu().numpy(),
            np.asarray(source.affine, dtype=float),
            np.asarray(image.dataobj),
            image.affine,
            hu=record.uncertainty.hu,
        ),
        calibrated,
    )
    axes = nib.orientations.ornt_transform(  # type: ignore[attr-defined]
        nib.orientations.axcodes2ornt("RAS"),  # type: ignore[attr-defined]
        nib.orientations.io_orientation(image.affine),  # type: ignore[attr-defined]
    )
    stored = nib.orientations.apply_orientation(half_widths, axes)  # type: ignore[attr-defined]
    name = nifti.name.removesuffix(".gz").removesuffix(".nii")
    path = nifti.with_name(f"{name}{MAP_SUFFIX}.nii.gz")
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    nib.save(nib.Nifti1Image(stored.astype(np.float32), image.affine, header), path)  # type: ignore[attr-defined]
    novelty = summary["novelty"]
    logger.info(
        f"{path.name}: half-widths of {summary['mean_half_width']:g} {summary['unit']} on average."
        f" {record.uncertainty.sentence}"
    )
    if novelty["flagged"]:
        logger.warning(
            f"{file_name(source)} looks unlike the patients on whom the uncertainty was measured (p ="
            f" {novelty['p_value']:g}): do not rely on its half-widths."
        )
    return path, summary


def write_dicom_map(
    nifti_map: Path,
    folder: Path,
    source: Stack,
    derivation: Derivation,
    rule: DerivedRule,
    summary: Mapping[str, Any],
    *,
    now: datetime | None = None,
    seed: Sequence[str] | None = None,
) -> Path:
    """Write a map of half-widths as a series of its own beside the derived series that it belongs to.

    Args:
        nifti_map: File of the map, see `write_uncertainty`.
        folder: Folder of the derived series.
        source: Series that was translated.
        derivation: What made the translation.
        rule: Rule of what a derived series may say.
        summary: Summary of the map in the sidecar.
        now: Date and time of the making; default: now.
        seed: Texts from which all new UIDs are computed; default: random UIDs.

    Returns:
        Folder of the new series, which must not exist: the derived series' name with `_uncertainty`.
    """
    image: Any = nib.load(nifti_map)  # type: ignore[attr-defined]
    promise = summary["promise"]
    words = (
        f"For a patient like those measured on, with a probability of at least {promise['confidence']:.0%}, at least"
        f" {promise['coverage']:.0%} of the foreground lie within output +/- half-width. {promise['sentence']}"
    )
    text = MapText(
        unit=str(summary["unit"]),
        hounsfield=summary["unit"] == "HU",
        promise=words if summary["locates_errors"] else f"{words} {NOT_LOCATED}",
        series=str(read_header(min(folder.iterdir())).SeriesInstanceUID),
    )
    place = folder.with_name(f"{folder.name}{MAP_SUFFIX}")
    write_parametric_map(
        np.asarray(image.dataobj),
        image.affine,
        source=source,
        derivation=derivation,
        rule=rule,
        text=text,
        output_dir=place,
        now=now,
        seed=seed,
    )
    return place


def clipped_voxels(source: Any, percentiles: Sequence[float]) -> dict[str, Any]:
    """Count the voxels of a source beyond the percentiles between which it is encoded, which are clipped.

    Args:
        source: Source, an array of any shape, or a volume (1, X, Y, Z) that may be memory-mapped.
        percentiles: Lower and upper percentile in percent.

    Returns:
        Numbers of voxels `below`, `above` and `of` (all), and the values `low` and `high` of the percentiles.

    Example:
        >>> clipped_voxels(np.arange(101.0), [1, 99])
        {'below': 1, 'above': 1, 'of': 101, 'low': 1.0, 'high': 99.0}
    """
    size = int(np.prod(source.shape))
    if size > MOST_VOXELS and isinstance(source, torch.Tensor):
        counts = counted(lambda: (plane.numpy() for plane in planes(source)))
        low, high = (counts.percentile(percent) for percent in percentiles)
        parts = [(int((plane < low).sum()), int((plane > high).sum())) for plane in planes(source)]
        below, above = (sum(numbers) for numbers in zip(*parts))
    else:
        values = np.asarray(source)
        low, high = (float(value) for value in np.percentile(values, percentiles))
        below, above = int((values < low).sum()), int((values > high).sum())
    return {"below": below, "above": above, "of": size, "low": low, "high": high}


def _sources(source: Any) -> list[str]:
    """Return the last three parts of the source's path, as the rest is specific to this machine."""
    path = source_path(source)
    return [] if path is None else [str(Path(*Path(path).parts[-3:]))]
