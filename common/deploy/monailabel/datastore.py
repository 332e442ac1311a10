"""Datastore with sub-folders and DICOM series: MONAI Label's local datastore lists the files of one folder.

Nothing is written outside of the studies' folder, whatever names a client sends; and sessions, the client's own images.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.utils.sessions import SessionInfo, Sessions

from ...files import below, safe_component
from ...images.nifti import VOLUME_SUFFIXES
from .gate import check_image, leave
from .images import one_image, series_folders, unpack
from .limits import DEFAULT, Limits


class StudiesDatastore(LocalDatastore):
    """Datastore of NIfTI files and folders of DICOM series, at any depth below the studies.

    An image's id is its path below the studies, without the suffix of NIfTI.

    Args:
        studies: Folder of the images; its sub-folder `labels` belongs to MONAI Label or the phantoms.
        limits: What a request may cost.
        others: Further arguments of MONAI Label's `LocalDatastore`.
    """

    def __init__(self, studies: str, limits: Limits = DEFAULT, **others: Any) -> None:
        self.limits = limits
        super().__init__(studies, extensions=[f"*{suffix}" for suffix in reversed(VOLUME_SUFFIXES)], **others)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Keep an upload: NIfTI, a DICOM file, or a zip of one DICOM series, which becomes a folder."""
        upload = Path(image_filename)
        leave(upload)
        try:
            place = self._free_place(image_id)
            with tempfile.TemporaryDirectory() as scratch:
                image = one_image(upload, Path(scratch), self.limits)
                place.parent.mkdir(parents=True, exist_ok=True)
                if image.is_file():
                    return super().add_image(image_id, str(image), image_info)
                shutil.copytree(image, place)
        except ValueError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error
        info = {**(image_info or {}), "ts": int(time.time()), "name": image_id}
        self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=""))
        self._update_datastore_file()
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Also refresh, as MONAI Label's file watcher misses folders; the target of a link to elsewhere stays."""
        known = self._datastore.objects.get(image_id)
        if known is not None:
            try:
                below(self._images(), self._filename(image_id, known.image.ext))
            except ValueError as error:
                raise HTTPException(status_code=400, detail=f"{error} Its administrator may remove it.") from error
        super().remove_image(image_id)
        self.refresh()

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label below the folder of labels."""
        leave(label_filename)
        if image_id not in self._datastore.objects:
            raise ImageNotFoundException(f"Image {image_id} not found")
        try:
            safe_component(label_tag, "tag")
            _, suffix = self._to_id(Path(label_filename).name)
            labels = Path(self._datastore.label_path(None))
            place = below(labels, label_tag, self._filename(image_id, suffix))
            below(labels / label_tag, place)
        except ValueError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error
        place.parent.mkdir(parents=True, exist_ok=True)
        return super().save_label(image_id, label_filename, label_tag, label_info)

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Pack the labelled images; the archive is removed when it has been sent."""
        if not self.datalist():
            raise HTTPException(status_code=404, detail="No image of the datastore has a final label.")
        archive = super().get_dataset_archive(limit_cases)
        leave(archive)
        return archive

    def _free_place(self, image_id: str) -> Path:
        check_image(image_id)
        place = below(self._images(), image_id)
        labels = Path(self._datastore.label_path(None)).resolve()
        if labels in (place, *place.parents):
            raise ValueError(f"`image` must not lie in the folder of labels, got {image_id!r}: choose another name.")
        if place.exists():
            raise ValueError(f"The studies have a folder {image_id!r}: remove it first.")
        for suffix in VOLUME_SUFFIXES:  # a file of that name may be a link to elsewhere
            below(self._images(), image_id + suffix)
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


class UploadSessions(Sessions):
    """Sessions: images that a client uploads for several requests. A session's id is a plain name.

    Args:
        store_path: Folder of the sessions.
        expiry: Seconds after which a session is removed.
        limits: What a request may cost.
    """

    def __init__(self, store_path: str, expiry: int, limits: Limits) -> None:
        super().__init__(store_path, expiry)
        self.limits = limits

    def get_session(self, session_id: str, *args: Any, **others: Any) -> SessionInfo | None:
        """Return a session, None if there is none; its image is one of its own files."""
        try:
            folder = below(self.store_path, safe_component(session_id, "session_id"))
        except ValueError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error
        found = super().get_session(session_id, *args, **others)
        if found is not None and folder not in Path(found.image).resolve().parents:
            return None
        return found

    def add_session(
        self, data_file: str, expiry: int = 0, uncompress: bool = False, session_id: str | None = None
    ) -> tuple[str, SessionInfo]:
        """Keep an upload; a packed one must be a zip, since a tar may write anywhere."""
        received = Path(data_file)
        leave(received)
        leave(received.parent)
        try:
            safe_component(received.name, "filename")
            if uncompress and received.is_file():
                folder = received.with_name("unpacked")
                folder = folder if received.name != folder.name else received.with_name("unpacked_files")
                unpack(received, folder, self.limits)
                received, uncompress = folder, False
            if received.name == "meta.info":
                raise ValueError("`filename` must not be 'meta.info', the server's own file: choose another name.")
        except ValueError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error
        return super().add_session(str(received), expiry, uncompress, session_id)
