"""Warning of a CT whose DICOM header says that contrast medium was given."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name

logger = logging.getLogger(__name__)

AGENT = "contrast_agent"  # in the meta data of a volume from DICOM


class CheckNoAgentd(MapTransform):
    """
    Warns of an image with contrast medium by its DICOM header; whether it shows any is `CheckNonContrastd`'s question.

    Args:
        keys: keys of MetaTensors.
    """

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            agent = getattr(data[key], "meta", {}).get(AGENT)
            if agent:
                logger.warning(
                    f"{file_name(data[key])}: its DICOM header names the contrast agent {agent!r}, but an image without"
                    " contrast medium is expected. Unless it was given by mouth, the translation is wrong; check the"
                    " series."
                )
        return dict(data)
