"""Datastore of the CT and MR series of a DICOMweb server, such as Orthanc, to which results can be sent.

MONAI Label's own converts each series to NIfTI, which loses the headers that the bundles check, and lists CT only.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX, DICOMWebDatastore
from pydicom import Dataset, dcmread

from ...files import below

MODALITIES = ("CT", "MR")
SYNTHETIC = "SYNTHETIC "  # begins the SeriesDescription of each derived series
LIST_SECONDS = 5.0
BATCH = 20  # images of one request


class ArchiveDatastore(DICOMWebDatastore):
    """Datastore whose images are the series of a DICOMweb server; an image's id is its SeriesInstanceUID.

    Args:
        address: Root of the server, such as `http://127.0.0.1:8042/dicom-web`.
    """

    def __init__(self, address: str) -> None:
        session = requests.Session()
        if settings.MONAI_LABEL_DICOMWEB_USERNAME:
            session.auth = (settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD)
        client = DICOMwebClientX(
            url=address,
            session=session,
            qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
            wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
            stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
        )
        self._listed: tuple[float, list[str]] = (-LIST_SECONDS, [])
        cache = (settings.MONAI_LABEL_DICOMWEB_CACHE_PATH or "").strip()
        super().__init__(client, search_filter={}, cache_path=cache or None, convert_to_nifti=False)

    def list_images(self) -> list[str]:
        """Return the UIDs of the series, but of those that a bundle made."""
        when, known = self._listed
        if time.monotonic() - when >= LIST_SECONDS:
            found = [each for modality in MODALITIES for each in self._series(Modality=modality)]
            made = [str(each.get("SeriesDescription") or "").startswith(SYNTHETIC) for each in found]
            known = [str(each.SeriesInstanceUID) for each, synthetic in zip(found, made) if not synthetic]
            self._listed = (time.monotonic(), known)
        return list(known)

    def get_image_uri(self, image_id: str) -> str:
        """Download a series, unless all of its images are here already, and return its folder.

        Raises:
            HTTPException: If the server has no such series, or does not send all of it.
        """
        folder = below(self._datastore.image_path(), image_id)
        found = [each for each in self._series(SeriesInstanceUID=image_id) if each.SeriesInstanceUID == image_id]
        if not found:
            raise HTTPException(status_code=404, detail=f"The archive has no series {image_id!r}.")
        expected = int(found[0].get("NumberOfSeriesRelatedInstances") or 0)
        if not expected or len(list(folder.glob("*.dcm"))) != expected:
            self._download(str(found[0].StudyInstanceUID), image_id, folder, expected)
        return str(folder)

    def push(self, files: Sequence[Path]) -> None:
        """Send images to the server by STOW-RS.

        Raises:
            HTTPException: If it does not take all of them.
        """
        for start in range(0, len(files), BATCH):
            images = [dcmread(file) for file in files[start : start + BATCH]]
            answer = self._asked(self._client.store_instances, images)
            if failed := answer.get("FailedSOPSequence"):
                raise HTTPException(status_code=502, detail=f"The archive refused {len(failed)} images.")
        self._listed = (-LIST_SECONDS, [])

    def _download(self, study: str, series: str, folder: Path, expected: int) -> None:
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        images = self._asked(self._client.retrieve_series, study, series)
        for number, image in enumerate(images):
            image.save_as(partial / f"{number:05d}.dcm")
        if expected and len(images) != expected:
            raise HTTPException(
                status_code=502, detail=f"The archive has sent {len(images)} of {expected} images of {series}."
            )
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def _series(self, **filters: str) -> list[Any]:
        return [Dataset.from_json(each) for each in self._asked(self._client.search_for_series, search_filters=filters)]

    @staticmethod
    def _asked(call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except requests.RequestException as error:
            raise HTTPException(
                status_code=502, detail=f"The archive does not answer as it should: {error}."
            ) from error
