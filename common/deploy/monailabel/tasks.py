"""Inference and training of a bundle as tasks of MONAI Label.

The type of the inference task is not a segmentation, so that a volume is returned unchanged. An error that the client
can correct is answered with its reason.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.train import TrainTask

from ...bundles import read_metadata
from .gate import leave
from .images import one_image
from .limits import Limits
from .running import check_sizes, definition, inference_parameters, overrides, reason, translate
from .training import Plan, plan, train, training_parameters

STATISTICS = ("epoch", "checksum", "training_data")


class TranslationTask(InferTask):
    """Translation of an image by a bundle, without label map, nearest-neighbour resampling or cast to 8 bit.

    Args:
        bundle_root: The bundle's folder.
        limits: What a request may cost.
    """

    def __init__(self, bundle_root: Path, limits: Limits) -> None:
        facts = read_metadata(bundle_root)
        super().__init__(
            type=InferType.OTHERS,
            labels={},
            dimension=3,
            description=f"{facts['task']} ({facts['name']}, version {facts['version']}). RESEARCH USE ONLY.",
        )
        self.bundle_root, self.limits = bundle_root, limits

    def config(self) -> dict[str, Any]:
        """Return the parameters that a client may send; choices are lists, with the default first."""
        return inference_parameters(self.bundle_root)

    def is_valid(self) -> bool:
        return self._weights().is_file()

    def get_path(self, validate: bool = True) -> str | None:
        return str(self._weights()) if self._weights().is_file() or not validate else None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Translate an image.

        Args:
            request: Path of the image under `image`, and parameters.

        Returns:
            Path of the output, and its provenance.

        Raises:
            HTTPException: If the image or a parameter is refused: status 400 with the reason.
        """
        try:
            return self._translate(request)
        except Exception as error:
            why = reason(error)
            if why is None:
                raise
            raise HTTPException(status_code=400, detail=why) from error

    def _translate(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        given = overrides(request, self.config(), model=self.bundle_root.name, limits=self.limits)
        check_sizes(given, self.limits)
        with tempfile.TemporaryDirectory() as scratch:
            unpacked, output_dir = Path(scratch, "unpacked"), Path(scratch, "output")
            image = one_image(Path(request["image"]), unpacked, self.limits)
            path, facts = translate(self.bundle_root, image, output_dir, given, max_output_gb=self.limits.max_output_gb)
            name, suffixes = path.name.split(".nii")[0], "".join(path.suffixes[path.suffixes.index(".nii") :])
            handle, kept = tempfile.mkstemp(prefix=f"{name}_", suffix=suffixes)  # the server deletes it after sending
            os.close(handle)
            leave(kept)
            shutil.move(path, kept)
        return kept, facts

    def _weights(self) -> Path:
        return self.bundle_root / "models" / "model.pt"


class TranslationTraining(TrainTask):
    """Training of a bundle on the server's studies.

    Args:
        bundle_root: The bundle's folder, whose `models` receives the weights.
        studies: Folder of the images.
        limits: What a request may cost.
    """

    def __init__(self, bundle_root: Path, studies: Path, limits: Limits) -> None:
        super().__init__(f"Training: {read_metadata(bundle_root)['task']}")
        self.bundle_root, self.studies, self.limits = bundle_root, studies, limits

    def config(self) -> dict[str, Any]:
        """Return the parameters that a client may send, with their defaults."""
        return training_parameters(self.bundle_root)

    def stats(self) -> dict[str, Any]:
        """Return epoch, checksum and training data of the weights."""
        facts = definition(self.bundle_root)
        return {name: facts[name] for name in STATISTICS if name in facts}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and return `stats`; a training that cannot start is refused as by `check`."""
        planned = self.check(request, datastore)
        try:
            train(self.bundle_root, planned)
        except RuntimeError as error:
            raise HTTPException(status_code=500, detail=str(error)) from error
        return self.stats()

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> Plan:
        """Return the plan of a training.

        Raises:
            HTTPException: If a parameter or the studies are refused: status 400 with the reason.
        """
        images = {Path(name).name: datastore.get_image_uri(name) for name in datastore.list_images()}
        try:
            return plan(self.bundle_root, self.studies, images, request, self.limits)
        except Exception as error:
            why = reason(error)
            if why is None:
                raise
            raise HTTPException(status_code=400, detail=why) from error
