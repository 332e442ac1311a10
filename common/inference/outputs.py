"""
Writing a translated volume: checked, with its sidecar, as NIfTI, as DICOM or as both, whole or not at all.

The output format that is asked for, and the DICOM series written from a NIfTI file.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..dicom.derived.headers import Derivation
from ..dicom.derived.rules import derived_rule
from ..dicom.derived.series import write_derived_series
from ..dicom.derived.source import read_source_series
from ..dicom.geometry import Stack
from ..dicom.reader import source_files
from ..errors import disk_full_names
from ..files import Staging, write_json
from ..images.names import file_name, source_path
from ..images.nifti import VOLUME_SUFFIXES
from ..images.writing import save_volume
from ..metrics.score import foreground_mask
from ..transforms.guards.contrast import masked_correlation
from ..transforms.guards.findings import Finding, noted
from .output_check import OutputCheck, paired_slices
from .sidecar import RunRecord, sidecar

NIFTI, DICOM, BOTH = "nifti", "dicom", "both"
FORMATS = (NIFTI, DICOM, BOTH)
CURE = (
    "needs a DICOM source, whose patient, study and frame of reference the new series takes over, but {name} is none:"
    " give its DICOM series, or `--output_format nifti`."
)


def check_output_format(output_format: str, images: Sequence[Mapping[str, Any]], *, key: str = "image") -> None:
    """
    Refuses, before work starts, a format that the sources do not allow.

    Args:
        output_format: `nifti`, `dicom` or `both`.
        images: data items with the paths of the sources, see `find_images`.
        key: where an item's path is.

    Raises:
        ValueError: when the format is another, or a source is NIfTI though DICOM is asked for.

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
    """
    Refuses, before it is translated, an image to whose source no derived series could refer.

    Args:
        keys: keys of loaded volumes.
        output_format: with `nifti` all pass.

    Raises:
        ValueError: when the format is unknown; when called, for a source that is not one even series of single-frame
            DICOM images, see `read_source_series`: the same that the writer uses.
    """

    def __init__(self, keys: KeysCollection, output_format: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        _check_known(output_format)
        self.output_format = output_format

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.output_format != NIFTI:
            for key in self.key_iterator(dict(data)):
                _source_series(data[key], self.output_format)
        return dict(data)


def write_dicom(nifti: Path, folder: Path, source: Any, record: RunRecord, *, output_format: str = DICOM) -> Path:
    """
    Write a translation as a series derived from its source.

    Args:
        nifti: the translation.
        folder: of the new series; must not exist.
        source: the volume that was translated, whose meta data name its DICOM files.
        record: of the run.
        output_format: as the user gave it, for messages.

    Returns:
        the folder.

    Raises:
        ValueError: see `write_derived_series`.
    """
    image: Any = nib.load(nifti)  # type: ignore[attr-defined]
    # A super-resolved volume may exceed the memory, so slices are read one by one; a compressed file has no parts.
    volume = np.asarray(image.dataobj) if nifti.suffix == ".gz" else image.dataobj
    write_derived_series(
        volume,
        image.affine,
        source=_source_series(source, output_format),
        derivation=Derivation(record.bundle, record.version, record.weights_sha256, record.target),
        rule=derived_rule(record.root),
        output_dir=folder,
    )
    return folder


def _source_series(image: Any, output_format: str) -> Stack:
    files = source_files(getattr(image, "meta", {}))
    if not files:
        raise ValueError(f"`output_format` {output_format!r} {CURE.format(name=file_name(image))}")
    return read_source_series(files)


def _check_known(output_format: str) -> None:
    if output_format not in FORMATS:
        raise ValueError(f"`output_format` must be one of {', '.join(FORMATS)}, got {output_format!r}.")


class SaveOutputd(MapTransform):
    """
    Writes translations (1, X, Y, Z) on their sources' grid as `<source's name>_synthetic_<target>`.

    The suffix is `.nii.gz` for NIfTI, none for the folder of a DICOM series, `.json` for the sidecar. All of them
    appear together, after the output was checked; on an error none does.

    Args:
        keys: keys of translations, in the units in which they are stored.
        record: of the run.
        check: judges them.
        output_dir: where they go.
        data_root_dir: outputs keep their path below it.
        source_key: key of the source volume, untouched, on the same grid.
        dtype: of the file; whole numbers must be rounded before.
        output_format: `nifti`, `dicom` or `both`.
        inverts: whether bright and dark must change places, as from T1 to T2.
        percentiles: of the source, between which it was encoded; what lies beyond is counted.

    Raises:
        ValueError: when called, for an output that must not be written.
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
        correlation = masked_correlation(first, second, foreground_mask(first)) if self.inverts else None
        findings = self.check(pair, file_name(source), correlation=correlation)
        clipped = {} if self.percentiles is None else {"clipped_voxels": clipped_voxels(first, self.percentiles)}
        return findings, clipped


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
    """
    Adds the DICOM series, where asked for, and the sidecar to a staged NIfTI file, and publishes them.

    The sidecar comes first: no output is ever without it.

    Args:
        staging: in which the file lies.
        nifti: the file.
        source: the image that was translated, a MetaTensor.
        record: of the run.
        output_format: `nifti`, `dicom` or `both`.
        findings: of the output's checks.
        more: further facts for the sidecar.

    Returns:
        paths of the outputs, then that of the sidecar.
    """
    name = nifti.name.removesuffix(".gz").removesuffix(".nii")
    outputs = [] if output_format == DICOM else [nifti]
    if output_format in (DICOM, BOTH):
        outputs.append(write_dicom(nifti, nifti.with_name(name), source, record, output_format=output_format))
    facts = sidecar(record, sources=_sources(source), outputs=outputs, guards=noted(source), findings=findings, **more)
    beside = write_json(nifti.with_name(f"{name}.json"), facts)
    published = staging.publish([beside, *outputs])
    return [*published[1:], published[0]]


def clipped_voxels(source: np.ndarray, percentiles: Sequence[float]) -> dict[str, Any]:
    """
    How many voxels of a source lie beyond the percentiles between which it is encoded, and so lose their value.

    Args:
        source: any shape.
        percentiles: lower and upper, in percent.

    Example:
        >>> clipped_voxels(np.arange(101.0), [1, 99])
        {'below': 1, 'above': 1, 'of': 101, 'low': 1.0, 'high': 99.0}
    """
    low, high = (float(value) for value in np.percentile(source, percentiles))
    below, above = int((source < low).sum()), int((source > high).sum())
    return {"below": below, "above": above, "of": int(source.size), "low": low, "high": high}


def _sources(source: Any) -> list[str]:
    """The last three parts of the path: the rest is of this machine alone."""
    path = source_path(source)
    return [] if path is None else [str(Path(*Path(path).parts[-3:]))]
