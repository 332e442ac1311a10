"""The app that `monailabel start_server` serves."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from fastapi import Depends, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User, get_current_user, oauth2_scheme
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask

from ... import __version__
from ...files import safe_component, shown
from .archive import ArchiveDatastore
from .bundles import find_bundles
from .datastore import StudiesDatastore, UploadSessions
from .gate import WRITING, Gate, check_fields, check_file_name, check_parameters, is_upload, leave, require_apart
from .limits import Limits, read_mapping
from .tasks import TranslationTask, TranslationTraining

USER = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))  # of an endpoint: who may use it
NOWHERE = "/dev/null/nothing"  # a path that no system has


class TranslationApp(MONAILabelApp):
    """MONAI Label app that serves the bundles of a folder.

    Args:
        app_dir: The app's folder.
        studies: A folder of images, or the address of a DICOMweb server.
        conf: `bundles`, the folder of the bundles (default: `bundles` in the app's folder); `models`, names of the
            bundles to serve, separated by commas (default: all); `push`, whether a client may have results sent to the
            DICOMweb server (default: false); and the `Limits` by their names.

    Raises:
        ValueError: If a value of `conf` is refused, or if code lies where clients may write.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        folder = Path(conf.get("bundles") or Path(app_dir, "bundles"))
        self.bundles = find_bundles(folder.resolve(), conf.get("models"))
        self.limits = Limits.from_conf(conf)
        self.remote = studies.startswith(("http://", "https://"))
        self.push = _is_true(conf, "push")
        code = [Path(app_dir, "main.py"), folder, *self.bundles]
        require_apart(code, written=[] if self.remote else [studies])
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="Image translation",
            description="Translates one medical image into another, with MONAI bundles. RESEARCH USE ONLY.",
            version=__version__,
        )
        if self.sessions() is not None:
            require_apart(code, written=[self.sessions().store_path])

    def init_infers(self) -> dict[str, InferTask]:
        push = self._push if self.remote and self.push else None
        return {root.name: TranslationTask(root, self.limits, push=push) for root in self.bundles}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {root.name: TranslationTraining(root, Path(self.studies), self.limits) for root in self.bundles}

    def init_datastore(self) -> Datastore:
        if self.remote:
            return (
                super().init_datastore()
            )  # which calls `_init_dicomweb_datastore`, unless it is another kind of store
        return StudiesDatastore(
            self.studies,
            self.limits,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def _init_dicomweb_datastore(self) -> Datastore:
        if "googleapis.com" in self.studies:
            return super()._init_dicomweb_datastore()
        return ArchiveDatastore(self.studies)

    def _download_dcmqi_tools(self) -> None:
        """Download nothing: the tools write segmentations, which a translation has none of."""

    def _push(self, files: Sequence[Path]) -> None:
        self.datastore().push(files)

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run an inference; an unknown model or image gives status 404, where MONAI Label would give 500."""
        image, known = str(request.get("image") or ""), (datastore or self.datastore()).list_images()
        for sent in (image, str(request.get("label") or "")):
            if sent not in known and is_upload(Path(sent)):
                leave(sent)
        self._require_model(request.get("model"))
        try:
            safe_component(request.get("label_tag") or "original", "label_tag")
        except ValueError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error
        if image not in known and not self._is_sent(image):
            hint = f"has {len(known)}, such as {known[0]!r}" if known else "is empty"
            raise HTTPException(status_code=404, detail=f"The datastore has no image {shown(image)}; it {hint}.")
        answer = super().infer(request, datastore)
        leave(answer["file"])  # also when the answer does not send it
        return answer

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Refuse: MONAI Label would open any file of the server by its path."""
        raise HTTPException(status_code=403, detail="There are no whole-slide images here.")

    def check_training(self, model: str, request: Mapping[str, Any]) -> None:
        """Refuse a training that cannot start, where MONAI Label would start it and let it fail.

        Raises:
            HTTPException: Status 404 for an unknown model, 400 with the reason for anything else.
        """
        self._require_model(request.get("model") or model)
        if self.remote:  # all images would be downloaded, and their UIDs name no domains
            raise HTTPException(status_code=400, detail="Training needs the studies in a folder, not in an archive.")
        task = self._trainers.get(request.get("model") or model)
        if task is not None:
            task.check(request, self.datastore())

    def on_init_complete(self) -> None:
        """Also put the checks of requests before the server's endpoints."""
        super().on_init_complete()
        server = importlib.import_module("monailabel.app").app  # it imports this app's folder, so not at the top
        route = APIRoute("/datastore/image", self._give_image, methods=["GET", "HEAD"], include_in_schema=False)
        server.router.routes.insert(0, route)  # before MONAI Label's own, which finds no file where a series lies
        server.middleware_stack = None  # rebuilt, with what follows, on the first request
        server.add_middleware(Gate, limits=self.limits, known=self._known, remote=self.remote)
        server.dependency_overrides[get_current_user] = self._checked_user
        server.add_exception_handler(json.JSONDecodeError, _no_json)
        server.add_exception_handler(MONAILabelException, _label_error)

    def bundle_path(self, model: str | None) -> str | None:
        """Refuse an unknown model: MONAI Label asks for this path before it starts a task.

        The answer replaces what a client may have sent: the task's process would import Python modules from there.
        """
        if model is not None:
            self._require_model(model)
        return super().bundle_path(model) or NOWHERE

    async def _checked_user(
        self, request: Request, token: str = Depends(oauth2_scheme) if settings.MONAI_LABEL_AUTH_ENABLE else ""
    ) -> User:
        """Return the user, which every endpoint asks for, when the content of the request has been checked."""
        user = await get_current_user(token)
        if request.method in WRITING:
            try:
                await self._check_content(request)
            except ValueError as error:
                raise HTTPException(status_code=400, detail=str(error)) from error
        return user

    def _give_image(
        self,
        request: Request,
        image: str,
        check_sum: str | None = None,
        _: User = USER,
    ) -> Any:
        """Send an image: a file as MONAI Label does, the folder of a DICOM series as a zip, as an upload may be."""
        check_only = request.method == "HEAD"
        place = Path(self.datastore().get_image_uri(image)) if image in self._known() else Path()
        if image not in self._known() or not place.is_dir():
            return importlib.import_module("monailabel.endpoints.datastore").download_image(
                image, check_only, check_sum
            )
        if check_only:
            return {}
        number, packed = tempfile.mkstemp(suffix=".zip")
        os.close(number)
        leave(packed)
        with ZipFile(packed, "w") as archive:
            for file in sorted(path for path in place.iterdir() if path.is_file()):
                archive.write(file, file.name)
        return FileResponse(packed, media_type="application/zip", filename=f"{place.name}.zip")

    async def _check_content(self, request: Request) -> None:
        parts = [part for part in request.url.path.split("/") if part]
        if "proxy" in parts[:2]:  # DICOM, for the DICOMweb server
            return
        kind = request.headers.get("content-type", "").lower()
        if kind.startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
            form = await request.form()  # the server has parsed it
            items = [(name, value) for name, value in form.multi_items()]
            check_fields([pair for pair in items if isinstance(pair[1], str)], self._known, self.limits)
            for _, value in items:
                if not isinstance(value, str) and value.filename:
                    check_file_name(value.filename)
            return
        body = read_mapping("body", await request.body(), self.limits)
        check_parameters(body, self._known)
        if request.method == "POST" and "train" in parts[-2:]:
            for model in self._trainers if parts[-1] == "train" else parts[-1:]:
                own = body.get(model) if parts[-1] == "train" else None
                self.check_training(model, {**(own if isinstance(own, dict) else {}), **body})

    def _known(self) -> Collection[str]:
        return self.datastore().list_images()

    def _load_sessions(self, load: bool = False) -> UploadSessions | None:
        if not load:
            return None
        return UploadSessions(settings.MONAI_LABEL_SESSION_PATH, settings.MONAI_LABEL_SESSION_EXPIRY, self.limits)

    def _is_sent(self, image: str) -> bool:
        """Return whether a path is an upload or belongs to a session, and is no other file of the server."""
        path, sessions = Path(image), self.sessions()
        is_session = sessions is not None and Path(sessions.store_path).resolve() in path.resolve().parents
        return (is_upload(path) or is_session) and path.exists()

    def _require_model(self, model: Any) -> None:
        names = [root.name for root in self.bundles]
        if model not in names:
            raise HTTPException(status_code=404, detail=f"There is no model {shown(model)}; this server has {names}.")


def _is_true(conf: Mapping[str, str], name: str) -> bool:
    value = str(conf.get(name) or "false").lower()
    if value not in ("true", "false"):
        raise ValueError(f"`--conf {name}` must be true or false, got {shown(value)}.")
    return value == "true"


async def _no_json(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(status_code=400, content={"detail": f"`params` must be JSON: {error}."})


async def _label_error(_: Request, error: MONAILabelException) -> JSONResponse:
    absent = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
    absent = absent or error.error is MONAILabelError.APP_INIT_ERROR  # of a task or strategy
    status = 404 if absent else 400 if error.error is MONAILabelError.INVALID_INPUT else 500
    return JSONResponse(status_code=status, content={"detail": error.msg})
