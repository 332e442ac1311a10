"""
MONAI Deploy's own pipeline of its bundle examples, without a class of this project, for a folder of DICOM.

    BUNDLE_PATH=MODEL python stock_deploy.py -i DICOM -o OUT -m MODEL

MODEL is a TorchScript file; a bundle's folder is given as BUNDLE_PATH alone. The last operator writes what it receives
to OUT/received.npz: the voxels and the affine of the SDK's `Image`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, ConditionType, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator

RULES = {"selections": [{"name": "any", "conditions": {"Modality": "(?i)CT|MR"}}]}


class Received(Operator):
    """Writes the image that comes out of the bundle."""

    def __init__(self, fragment: Fragment, *args, output_folder: Path, **kwargs) -> None:
        self.output_folder = output_folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("pred").condition(ConditionType.MESSAGE_AVAILABLE)

    def compute(self, op_input, op_output, context) -> None:
        image = op_input.receive("pred")
        affine = np.asarray(image.metadata()["nifti_affine_transform"], dtype=float)
        np.savez(self.output_folder / "received.npz", voxels=image.asnumpy(), affine=affine)


class StockApp(Application):
    def compose(self) -> None:
        context = Application.init_app_context(self.argv)
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=json.dumps(RULES), name="selector")
        to_volume = DICOMSeriesToVolumeOperator(self, name="to_volume")
        bundle = MonaiBundleInferenceOperator(
            self,
            app_context=context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=os.environ["BUNDLE_PATH"],
            name="bundle",
        )
        received = Received(self, output_folder=Path(context.output_path), name="received")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, to_volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(to_volume, bundle, {("image", "image")})
        self.add_flow(bundle, received, {("pred", "pred")})


if __name__ == "__main__":
    Path(sys.argv[sys.argv.index("-o") + 1]).mkdir(parents=True, exist_ok=True)
    StockApp().run()
