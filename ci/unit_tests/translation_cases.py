"""What the unit tests of the translation bundles share: small data of noise, and one class per bundle.

For a pull request to the MONAI Model Zoo: copy this folder's files into its `ci/unit_tests`, and the unpacked releases
into its `models`. The tests run each release's own configs with its own code, on a processor, in about a minute.
"""

import glob
import json
import os
import shutil
import sys
import tempfile
import unittest

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow
from utils import check_workflow

SIZE = (72, 64, 4)


def write_noise(path, seed, lowest, size=SIZE, spacing=1.0):
    """Write a volume of noise, 1400 grey levels or HU wide."""
    volume = np.random.default_rng(seed).integers(lowest, lowest + 1400, size).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.diag([-spacing, -spacing, 1.0, 1.0])), path)


def write_data(folder, domains, lowest):
    """Write two patients of each domain and list, and their datalist.json."""
    lists = {"training": [], "validation": []}
    for name, entries in lists.items():
        for domain in domains:
            for number in range(2):
                patient = f"{name}_{number}_{domain}"
                file = f"{patient}.nii.gz"
                write_noise(os.path.join(folder, file), len(entries), lowest, spacing=0.5 if domain == "micro" else 1.0)
                entries.append({"image": file, "domain": domain, "patient": patient})
    with open(os.path.join(folder, "datalist.json"), "w", encoding="utf-8") as file:
        json.dump(lists, file)


class TranslationCase(unittest.TestCase):
    """Train for one iteration and translate a volume, each as a workflow that MONAI checks, runs and finalizes."""

    bundle = ""  # name of the folder in `models`
    domains = ()
    lowest = -1000  # of the values of an image
    stages = ()  # overlays of train.json that belong to a training
    training = {}
    inference = {}

    def setUp(self):
        self.root = os.path.abspath(os.path.join("models", self.bundle))
        sys.path.insert(0, self.root)  # the release's own `common`
        self.folder = tempfile.mkdtemp()
        self.data = os.path.join(self.folder, "data")
        os.makedirs(self.data)

    def tearDown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def workflow(self, workflow_type, names, **override):
        configs = os.path.join(self.root, "configs")
        return ConfigWorkflow(
            workflow_type=workflow_type,
            config_file=[os.path.join(configs, name) for name in names],
            logging_file=os.path.join(configs, "logging.conf"),
            meta_file=os.path.join(configs, "metadata.json"),
            bundle_root=self.root,
            output_dir=os.path.join(self.folder, "output"),
            device="$torch.device('cpu')",
            **override,
        )

    def test_train_config(self):
        write_data(self.data, self.domains, self.lowest)
        models = os.path.join(self.folder, "models")
        workflow = self.workflow(
            "train",
            ["train.json", "compact.yaml", *self.stages],
            dataset_dir=self.data,
            models_dir=models,
            **{"max_epochs": 1, "samples_per_epoch": 2, "batch_size": 2, **self.training},
        )
        check_workflow(workflow, check_properties=True)
        self.assertTrue([file for _, _, files in os.walk(models) for file in files if file == "model.pt"])

    def test_infer_config(self):
        write_noise(os.path.join(self.data, "scan.nii.gz"), 0, self.lowest, size=(32, 24, 4))
        workflow = self.workflow("inference", ["inference.json"], dataset_dir=self.data, guards="off", **self.inference)
        check_workflow(workflow, check_properties=True)
        output = os.path.join(self.folder, "output")
        (path,) = glob.glob(os.path.join(output, "**", "*.nii*"), recursive=True)
        self.assertGreater(np.asarray(nib.load(path).dataobj).std(), 0)
