"""Operators for MONAI Deploy: translation by a bundle, without a cast to 8 bit, and writing of derived series."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from monai.deploy.core import ConditionType, Fragment, Operator, OperatorSpec

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
        series = one_series(op_input.receive("study_selected_series_list"))
        files = [instance.get_native_sop_instance().filename for instance in series.get_sop_instances()]
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


def one_series(selected: Any) -> Any:
    """Return the only series of a selection.

    Args:
        selected: List of the SDK's `StudySelectedSeries`.

    Raises:
        ValueError: If there is none, or more than one: a program must not guess which one is meant.
    """
    found = [chosen.series for study in selected for chosen in study.selected_series]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            "The input folder has no series that fits: the modality of the bundle, no localizer, and what"
            " `--series` asks for."
        )
    names = [f"{series.SeriesDescription!r} ({series.SeriesInstanceUID})" for series in found]
    raise ValueError(
        f"The input folder has {len(found)} series that fit: {', '.join(names)}. Choose one with `--series`, by a part"
        " of its SeriesDescription or its SeriesInstanceUID."
    )
