"""Datastore with sub-folders and DICOM series: MONAI Label's local datastore lists the files of one folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore

from ...images.nifti import VOLUME_SUFFIXES
from .images import one_image, series_folders


class StudiesDatastore(LocalDatastore):
    """Datastore of NIfTI files and folders of DICOM series, at any depth below the studies.

    An image's id is its path below the studies, without the suffix of NIfTI.

    Args:
        studies: Folder of the images; its sub-folder `labels` belongs to MONAI Label or the phantoms.
        others: Further arguments of MONAI Label's `LocalDatastore`.
    """

    def __init__(self, studies: str, **others: Any) -> None:
        super().__init__(studies, extensions=[f"*{suffix}" for suffix in reversed(VOLUME_SUFFIXES)], **others)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Keep an upload: NIfTI, a DICOM file, or a zip of one DICOM series, which becomes a folder."""
        upload = Path(image_filename)
        try:
            place = self._free_place(image_id)
            with tempfile.TemporaryDirectory() as scratch:
                image = one_image(upload, Path(scratch))
                place.parent.mkdir(parents=True, exist_ok=True)
                if image.is_file():
                    return super().add_image(image_id, str(image), image_info)
                shutil.copytree(image, place)
        except ValueError as error:
            upload.unlink(missing_ok=True)  # MONAI Label deletes an upload only on success
            raise HTTPException(status_code=400, detail=str(error)) from error
        info = {**(image_info or {}), "ts": int(time.time()), "name": image_id}
        self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=""))
        self._update_datastore_file()
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Also refresh: MONAI Label's file watcher misses folders."""
        super().remove_image(image_id)
        self.refresh()

    def _free_place(self, image_id: str) -> Path:
        images = self._images().resolve()
        place = (images / image_id).resolve()
        if images not in place.parents:
            raise ValueError(f"`image` must be a name below the studies, got {image_id!r}.")
        if place.exists():
            raise ValueError(f"The studies have a folder {image_id!r}: remove it first.")
        return place

    def _images(self) -> Path:
        return Path(self._datastore.image_path())

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        root, labels = Path(path), Path(self._datastore.label_path(None))
        if root.resolve() != self._images().resolve():
            return super()._list_files(path, patterns)
        own = [file for file in root.rglob("*") if file.name.lower().endswith(VOLUME_SUFFIXES)]
        series = [folder for folder in series_folders(root, leave_out=[labels]) if folder != root]
        found = [file for file in own if labels.resolve() not in file.resolve().parents] + series
        names = [str(item.relative_to(root)) for item in sorted(found)]
        return {name: name for name in names}

    def _to_id(self, file: str) -> tuple[str, str]:
        for suffix in sorted(VOLUME_SUFFIXES, key=len, reverse=True):
            if file.lower().endswith(suffix):
                return file[: -len(suffix)], file[-len(suffix) :]
        return file, ""
