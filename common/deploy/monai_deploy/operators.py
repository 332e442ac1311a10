"""Two operators for MONAI Deploy: a bundle that keeps the values of its image, and a writer of derived series."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from monai.deploy.core import ConditionType, Fragment, Operator, OperatorSpec

from .translate import Target, Translation, translate_series, write_translation

logger = logging.getLogger(__name__)


class BundleTranslationOperator(Operator):
    """Translates the selected series by a bundle's own `inference.yaml`.

    `MonaiBundleInferenceOperator` of the SDK casts an image to 8 bit on its way out, and hides from the bundle what
    the DICOM headers say (a kernel). This operator hands the bundle the series itself, so that the result is that of
    the command line, in HU or float.

    Named input:
        study_selected_series_list: of `DICOMSeriesSelectorOperator`; exactly one series.

    Named output:
        translation: a `Translation`.

    Args:
        fragment: the application.
        bundle: the bundle's folder.
        work_dir: folder for what lies between DICOM and DICOM.
        target: the domain that is asked for; default: the bundle's.
        overrides: further ids of the bundle's `inference.yaml`.
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
        """The ports."""
        spec.input("study_selected_series_list")
        spec.output("translation").condition(ConditionType.NONE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Translate the one series that was selected."""
        series = one_series(op_input.receive("study_selected_series_list"))
        files = [instance.get_native_sop_instance().filename for instance in series.get_sop_instances()]
        work_dir = tempfile.mkdtemp(dir=self.work_dir)
        translation = translate_series(self.bundle, files, work_dir, target=self.target, overrides=self.overrides)
        op_output.emit(translation, "translation")


class DerivedSeriesWriterOperator(Operator):
    """Writes a translation as a derived DICOM series of the source's study.

    Named input:
        translation: a `Translation`.

    Args:
        fragment: the application.
        output_folder: where the folder of the series goes.
    """

    def __init__(self, fragment: Fragment, *args: Any, output_folder: str | Path, **kwargs: Any) -> None:
        self.output_folder = Path(output_folder)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """The port."""
        spec.input("translation")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the series."""
        translation: Translation = op_input.receive("translation")
        folder = write_translation(translation, self.output_folder)
        logger.info(f"Wrote {folder}: SYNTHETIC, research use only.")


def one_series(selected: Any) -> Any:
    """The only series of a selection: which of several is meant is not for a program to guess.

    Args:
        selected: list of the SDK's `StudySelectedSeries`.

    Raises:
        ValueError: when there is none, or more than one.
    """
    found = [chosen.series for study in selected for chosen in study.selected_series]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            "The input folder has no series that fits: the modality of the bundle, ImageType ORIGINAL and PRIMARY, no"
            " localizer, and what `--series` asks for. An image that is derived already is not translated."
        )
    names = [f"{series.SeriesDescription!r} ({series.SeriesInstanceUID})" for series in found]
    raise ValueError(
        f"The input folder has {len(found)} series that fit: {', '.join(names)}. Choose one with `--series`, by a part"
        " of its SeriesDescription or its SeriesInstanceUID."
    )
