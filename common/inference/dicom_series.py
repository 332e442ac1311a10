"""Run a bundle's own inference on one DICOM series: the pixels are those of `python -m monai.bundle run inference`."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow

from ..bundles import read_metadata
from ..dicom.derived.headers import Derivation
from ..dicom.derived.maps import require_highdicom
from ..dicom.derived.rules import DerivedRule, derived_rule
from ..dicom.derived.series import write_derived_series
from ..dicom.derived.source import read_source_series
from ..dicom.files import checked_uid
from ..dicom.geometry import Stack
from ..dicom.headers import cache, stamp
from ..files import checksum, read_json, refuse_outside, write_json
from ..images.names import is_map
from ..images.nifti import VOLUME_SUFFIXES
from .outputs import write_dicom_map
from .sidecar import described, doubted

Target = str | Mapping[str, float]


@dataclass(frozen=True)
class Translation:
    """A translated series.

    Args:
        path: NIfTI file of the volume, on the source's grid or a finer one.
        source: The series that was translated.
        derivation: Bundle, version, weights, target, and what the checks doubted.
        rule: The bundle's rules for headers of derived series.
        facts: Content of the sidecar that the bundle wrote beside the volume.
        uncertainty: NIfTI file of the map of half-widths; None if none was wanted.
    """

    path: Path
    source: Stack
    derivation: Derivation
    rule: DerivedRule
    facts: Mapping[str, Any]
    uncertainty: Path | None = None


def translate_series(
    bundle: str | Path,
    files: Iterable[str | Path],
    work_dir: str | Path,
    *,
    target: Target | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Translation:
    """Run `configs/inference.yaml` of a bundle on the files of one series.

    Args:
        bundle: The bundle's folder.
        files: Files of the series.
        work_dir: An empty folder for intermediate files.
        target: Target domain, or the weights of a blend; default: the bundle's.
        overrides: Further ids of `inference.yaml` and their values, such as `region` of super-resolution, or
            `uncertainty` for a map of half-widths.

    Raises:
        ModuleNotFoundError: If a map is wanted, without the package that writes it as DICOM.
        ValueError: If the files are not an evenly spaced series, their UID is invalid, or the bundle refuses the image
            or the target.
        FileNotFoundError: If the folder is not a bundle.
    """
    folder = Path(bundle).resolve()
    read_metadata(folder)  # or it is no bundle
    if (overrides or {}).get("uncertainty"):
        require_highdicom()
    paths = [Path(file).resolve() for file in files]
    source = read_source_series(paths)
    cache.keep_series({image.file: (stamp(image.file), image.header) for image in source.slices})  # for the bundle
    series = _linked(
        [image.file for image in source.slices], Path(work_dir) / checked_uid(source.headers[0], "SeriesInstanceUID")
    )
    output = Path(work_dir) / "output"
    given = {**(overrides or {}), **({} if target is None else {"target": target})}
    workflow = ConfigWorkflow(
        config_file=str(folder / "configs" / "inference.yaml"),
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=False,  # type: ignore[arg-type]  # MONAI's way to keep the logging of the app
        run_id="inference",
        bundle_root=str(folder),
        dataset_dir=str(series),
        output_dir=str(output),
        **given,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    path, half_widths = written_volumes(output)
    made = as_translation(folder, source, path, target=workflow.parser.get_parsed_content("target"), place=series)
    return dataclasses.replace(made, uncertainty=half_widths)


def written_volumes(output_dir: Path) -> tuple[Path, Path | None]:
    """Return the only volume that a bundle wrote into a folder, and its map of half-widths if there is one.

    Args:
        output_dir: Folder of the outputs.
    """
    files = [found for found in output_dir.rglob("*") if found.name.endswith(VOLUME_SUFFIXES)]
    (path,) = (found for found in files if not is_map(found))
    return path, next(filter(is_map, files), None)


def as_translation(bundle: str | Path, source: Stack, path: Path, *, target: Target, place: str | Path) -> Translation:
    """Describe a volume that a bundle has written, with the sidecar beside it, as the translation of a series.

    Args:
        bundle: The bundle's folder.
        source: The series.
        path: NIfTI file of the volume.
        target: Target domain, or the weights of a blend.
        place: Folder from which the bundle has read the series, of which the derived series shall not tell.
    """
    facts = read_json(path.with_name(f"{path.name.removesuffix('.gz').removesuffix('.nii')}.json"))
    doubts = doubted([*facts["guards"]["checks"], *facts["output_checks"]])
    derivation = Derivation(
        bundle=Path(bundle).name,
        version=str(read_metadata(bundle)["version"]),
        weights_sha256=checksum(Path(bundle) / "models" / "model.pt"),
        target=target,
        doubts=[re.sub(rf"'{re.escape(str(place))}[^']*'", "the series", doubt) for doubt in doubts],
    )
    return Translation(path, source, derivation, derived_rule(bundle), facts)


def write_translation(
    translation: Translation,
    output_dir: str | Path,
    *,
    seed: Sequence[str] | None = None,
    now: datetime | None = None,
) -> Path:
    """Write a translation as a derived series, its sidecar beside it, and a map of half-widths as a second series.

    Args:
        translation: Result of `translate_series`.
        output_dir: Parent folder of the series' folder.
        seed: Texts from which all new UIDs are computed; default: random UIDs.
        now: Date and time of the making; default: now.

    Returns:
        Folder of the series, `<source's SeriesInstanceUID>_synthetic_<target>`; the sidecar has the same name and ends
        in `.json`, and the folder of a map ends in `_uncertainty`.

    Raises:
        FileExistsError: If the folder exists.
        ValueError: If the UID is invalid.
    """
    image: Any = nib.load(translation.path)  # type: ignore[attr-defined]
    # Read slice by slice, as a super-resolved volume may exceed memory; a compressed file cannot be read in parts.
    volume = np.asarray(image.dataobj) if translation.path.suffix == ".gz" else image.dataobj
    uid = checked_uid(translation.source.headers[0], "SeriesInstanceUID")
    folder = Path(output_dir) / f"{uid}_synthetic_{translation.derivation.target_name}"
    refuse_outside(output_dir, folder)
    write_derived_series(
        volume,
        image.affine,
        source=translation.source,
        derivation=translation.derivation,
        rule=translation.rule,
        output_dir=folder,
        seed=seed,
        now=now,
    )
    outputs = [folder]
    if translation.uncertainty is not None:
        made = translation.source, translation.derivation, translation.rule, translation.facts["uncertainty"]
        outputs.append(write_dicom_map(translation.uncertainty, folder, *made, now=now, seed=seed))
    facts = {**translation.facts, "output": [described(output) for output in outputs]}
    write_json(folder.with_name(f"{folder.name}.json"), facts)
    return folder


def _linked(files: list[Path], folder: Path) -> Path:
    """Make a folder of links to these files: the bundle reads a folder as one series, the user's may have several."""
    folder.mkdir(parents=True)
    for number, file in enumerate(sorted(files), start=1):
        place = folder / f"{number:05d}.dcm"
        try:
            place.symlink_to(file)
        except OSError:  # Windows permits it to few users
            shutil.copyfile(file, place)
    return folder
