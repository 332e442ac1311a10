"""Operators for MONAI Deploy: translation by a bundle, without a cast to 8 bit, and writing of derived series."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from monai.deploy.core import ConditionType, Fragment, Operator, OperatorSpec

from ...dicom.files import dicom_among
from ...dicom.series import DicomVolume, find_volumes
from ...images.names import MAP_SUFFIX
from ...inference.dicom_series import Target, Translation, translate_series, write_translation

logger = logging.getLogger(__name__)


class BundleTranslationOperator(Operator):
    """Operator that translates the selected series by a bundle's own `inference.yaml`.

    The SDK's `MonaiBundleInferenceOperator` casts output images to 8 bit, and hides the DICOM headers (such as the
    kernel) from the bundle. This operator passes the series itself to the bundle, so that the result is that of the
    command line, in HU or float.

    Named input:
        study_selected_series_list: output of `DICOMSeriesSelectorOperator` with exactly one series.

    Named output:
        translation: a `Translation`.

    Args:
        fragment: The application.
        bundle: The bundle's folder.
        work_dir: Folder for intermediate files.
        target: Target domain, or the weights of a blend; default: the bundle's.
        overrides: Further ids of the bundle's `inference.yaml` and their values.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        bundle: str | Path,
        work_dir: str | Path,
        target: Target | None = None,
        overrides: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.bundle, self.work_dir = Path(bundle), Path(work_dir)
        self.target, self.overrides = target, overrides
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("study_selected_series_list")
        spec.output("translation").condition(ConditionType.NONE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Translate the selected series."""
        files = files_of_one_series(op_input.receive("study_selected_series_list"))
        work_dir = tempfile.mkdtemp(dir=self.work_dir)
        translation = translate_series(self.bundle, files, work_dir, target=self.target, overrides=self.overrides)
        op_output.emit(translation, "translation")


class DerivedSeriesWriterOperator(Operator):
    """Operator that writes a translation as a derived DICOM series of the source's study, and its map as a second one.

    Named input:
        translation: a `Translation`.

    Args:
        fragment: The application.
        output_folder: Parent folder of the series' folder.
    """

    def __init__(self, fragment: Fragment, *args: Any, output_folder: str | Path, **kwargs: Any) -> None:
        self.output_folder = Path(output_folder)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.input("translation")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the series."""
        translation: Translation = op_input.receive("translation")
        folder = write_translation(translation, self.output_folder)
        logger.info(f"Wrote {folder}: SYNTHETIC, research use only.")
        if translation.uncertainty is not None:
            promise = translation.facts["uncertainty"]["promise"]
            logger.info(f"Wrote {folder.name}{MAP_SUFFIX}: half-widths. {promise['sentence']}")
        for doubt in translation.derivation.doubts or ():
            logger.warning(f"{folder.name} is DOUBTED: {doubt}")


def files_of_one_series(selected: Any) -> list[Path]:
    """Return the files of the only series of a selection that holds a volume, which is found as on the command line.

    The SDK's loader leaves out one of two images at the same place, such as an echo or a localizer, and files that it
    cannot read. Therefore all files are taken that lie beside those of the selection.

    Args:
        selected: List of the SDK's `StudySelectedSeries`.

    Raises:
        ValueError: If none does, or more than one: a program must not guess which one is meant; or if a file that may
            be a slice of it cannot be read.
    """
    series = {
        str(chosen.series.SeriesInstanceUID): chosen.series for each in selected for chosen in each.selected_series
    }
    images = [instance.get_native_sop_instance() for each in series.values() for instance in each.get_sop_instances()]
    folders = sorted({Path(image.filename).parent for image in images})
    found = find_volumes(file for folder in folders for file in dicom_among(sorted(folder.iterdir())))
    found.log_skipped()
    volumes: dict[str, list[DicomVolume]] = {}
    for volume in found.volumes:
        if (uid := str(volume.header.SeriesInstanceUID)) in series:
            volumes.setdefault(uid, []).append(volume)
    if not volumes:
        raise ValueError(
            "The input folder has no series that fits: the modality of the bundle, a volume, and what `--series` asks"
            f" for. {found.reasons}".rstrip()
        )
    if len(volumes) > 1:
        names = [f"{series[uid].SeriesDescription!r} ({uid})" for uid in volumes]
        raise ValueError(
            f"The input folder has {len(volumes)} series that fit: {', '.join(names)}. Choose one with `--series`, by a"
            " part of its SeriesDescription or its SeriesInstanceUID."
        )
    (only,) = volumes.values()
    if damaged := [found.damaged[file] for volume in only for file in volume.damaged]:
        raise ValueError(f"A slice may be missing: {damaged[0]}")
    return [file for volume in only for file in volume.files]
