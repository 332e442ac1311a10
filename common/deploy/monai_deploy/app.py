"""The application: loader, selector, bundle, writer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator

from ...bundles import metadata_path, read_metadata
from ...dicom.derived.rules import derived_rule
from ...inference.dicom_series import Target
from .operators import BundleTranslationOperator, DerivedSeriesWriterOperator


def selection_rules(modality: str, series: str | None = None) -> str:
    """Return the SDK's rules, in JSON, that select the series of a bundle: those of its modality.

    Which of them hold a volume is found as on the command line, see `BundleTranslationOperator`: an image that its
    scanner derived is taken, a localizer is not.

    Args:
        modality: `CT` or `MR`.
        series: A SeriesInstanceUID, or a regular expression found in the SeriesDescription.
    """
    conditions: dict[str, Any] = {"Modality": f"^{modality}$"}
    if series is not None:
        is_uid = series.replace(".", "").isdigit() and "." in series
        conditions["SeriesInstanceUID" if is_uid else "SeriesDescription"] = series
    return json.dumps({"selections": [{"name": modality, "conditions": conditions}]})


def chosen_bundle(folder: str | Path) -> Path:
    """Return the bundle that a folder is, or that it contains as the only one, as `models` of a MAP does.

    Args:
        folder: The folder of the models that the SDK was given.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it contains several.
    """
    root = Path(folder).resolve()
    inside = [path for path in sorted(root.glob("*/")) if metadata_path(path).is_file()]
    if len(inside) > 1 and not metadata_path(root).is_file():
        names = ", ".join(path.name for path in inside)
        raise ValueError(
            f"{str(folder)!r} contains the bundles {names}: name the folder of one by `-m`, or by HOLOSCAN_MODEL_PATH."
        )
    bundle = inside[0] if inside and not metadata_path(root).is_file() else root
    read_metadata(bundle)
    return bundle


class TranslationApp(Application):
    """Application that reads a DICOM folder and writes a derived DICOM series. RESEARCH USE ONLY.

    The SDK's arguments name the folders: `-i` DICOM, `-o` output, `-m` a bundle (or `HOLOSCAN_INPUT_PATH`, ...).

    Args:
        target: Target domain, or the weights of a blend; default: the bundle's.
        series: The series to translate, see `selection_rules`; default: the only suitable one.
        overrides: Further ids of the bundle's `inference.yaml` and their values.
        argv: The interpreter, the program, and the SDK's arguments.
    """

    def __init__(
        self,
        *,
        target: Target | None = None,
        series: str | None = None,
        overrides: dict[str, Any] | None = None,
        argv: Sequence[str] | None = None,
    ) -> None:
        self.target, self.series, self.overrides = target, series, overrides
        super().__init__(None if argv is None else list(argv))

    def compose(self) -> None:
        """Connect the operators."""
        context: AppContext = Application.init_app_context(self.argv)
        bundle, output = chosen_bundle(context.model_path), Path(context.output_path)
        rules = selection_rules(derived_rule(bundle).modality, self.series)
        output.mkdir(parents=True, exist_ok=True)
        self.work_dir = tempfile.TemporaryDirectory(prefix="translation_", dir=context.workdir or None)
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=rules, all_matched=True, name="selector")
        translator = BundleTranslationOperator(
            self,
            bundle=bundle,
            work_dir=self.work_dir.name,
            target=self.target,
            overrides=self.overrides,
            name="translator",
        )
        writer = DerivedSeriesWriterOperator(self, output_folder=output, name="writer")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, translator, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(translator, writer, {("translation", "translation")})
