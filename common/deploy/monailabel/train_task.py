"""MONAI Label's view of a bundle's training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from .running import definition, metadata
from .training import train, training_parameters

STATISTICS = ("epoch", "checksum", "training_data")


class TranslationTraining(TrainTask):
    """
    Trains a bundle on the server's studies.

    Args:
        bundle_root: the bundle's folder; its `models` get the weights.
        studies: the folder of the images.
    """

    def __init__(self, bundle_root: Path, studies: Path) -> None:
        super().__init__(f"Training: {metadata(bundle_root)['task']}")
        self.bundle_root, self.studies = bundle_root, studies

    def config(self) -> dict[str, Any]:
        """The parameters that a client may send, with their defaults."""
        return training_parameters(self.bundle_root)

    def stats(self) -> dict[str, Any]:
        """What the weights were trained on, and how long."""
        facts = definition(self.bundle_root)
        return {name: facts[name] for name in STATISTICS if name in facts}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train; returns `stats`."""
        images = {Path(name).name: datastore.get_image_uri(name) for name in datastore.list_images()}
        train(self.bundle_root, self.studies, images, request)
        return self.stats()
