"""Inference and training of a bundle as tasks of MONAI Label.

The type of the inference task is not a segmentation, so that a volume is returned unchanged. An error that the client
can correct is answered with its reason.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.train import TrainTask

from ...bundles import read_metadata
from ...dicom.derived.source import read_source_series
from ...dicom.headers import read_header
from ...files import checksum
from ...inference.dicom_series import as_translation, write_translation
from .gate import leave
from .images import one_image
from .limits import Limits
from .running import MAP, check_sizes, definition, inference_parameters, overrides, reason, translate
from .training import Plan, plan, train, training_parameters

PUSH = "push"  # a parameter: send the result to the archive
Push = Callable[[Sequence[Path]], None]
STATISTICS = ("epoch", "checksum", "training_data")


class TranslationTask(InferTask):
    """Translation of an image by a bundle, without label map, nearest-neighbour resampling or cast to 8 bit.

    Args:
        bundle_root: The bundle's folder.
        limits: What a request may cost.
        push: Sends the files of a derived series to the archive; None where that is not possible.
    """

    def __init__(self, bundle_root: Path, limits: Limits, *, push: Push | None = None) -> None:
        facts = read_metadata(bundle_root)
        super().__init__(
            type=InferType.OTHERS,
            labels={},
            dimension=3,
            description=f"{facts['task']} ({facts['name']}, version {facts['version']}). RESEARCH USE ONLY.",
        )
        self.bundle_root, self.limits, self.push = bundle_root, limits, push

    def config(self) -> dict[str, Any]:
        """Return the parameters that a client may send; choices are lists, with the default first."""
        return inference_parameters(self.bundle_root) | ({PUSH: False} if self.push else {})

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
        push = given.pop(PUSH, False)
        if push not in (True, False):
            raise ValueError(f"`{PUSH}` must be true or false, got {push!r}.")
        check_sizes(given, self.limits)
        with tempfile.TemporaryDirectory() as scratch:
            unpacked, output_dir = Path(scratch, "unpacked"), Path(scratch, "output")
            image = one_image(Path(request["image"]), unpacked, self.limits)
            most = self.limits.max_output_gb
            path, facts, half_widths = translate(self.bundle_root, image, output_dir, given, max_output_gb=most)
            if push and self.push is not None:
                derived = self._derived(Path(request["image"]), path, Path(scratch, "derived"), facts)
                self.push(derived)
                facts["pushed"] = {
                    "SeriesInstanceUID": str(read_header(derived[0]).SeriesInstanceUID),
                    "images": len(derived),
                }
            if given.get("uncertainty") == MAP and half_widths is not None:
                path = half_widths
            name, suffixes = path.name.split(".nii")[0], "".join(path.suffixes[path.suffixes.index(".nii") :])
            handle, kept = tempfile.mkstemp(prefix=f"{name}_", suffix=suffixes)  # the server deletes it after sending
            os.close(handle)
            leave(kept)
            shutil.move(path, kept)
        return kept, facts

    def _derived(self, series: Path, path: Path, folder: Path, facts: Mapping[str, Any]) -> list[Path]:
        """Write a volume as a derived series; the same one again has the same UIDs."""
        source = read_source_series(series)
        translation = as_translation(self.bundle_root, source, path, target=facts["target"], place=series)
        made_by = translation.derivation
        identity = [made_by.bundle, made_by.version, made_by.weights_sha256, checksum(path)]
        images = sorted(str(header.SOPInstanceUID) for header in source.headers)
        return sorted(write_translation(translation, folder, seed=[*images, *identity]).iterdir())

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
