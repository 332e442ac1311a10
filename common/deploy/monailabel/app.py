"""The app that `monailabel start_server` serves."""

from __future__ import annotations

import importlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask

from ... import __version__
from .bundles import find_bundles
from .datastore import StudiesDatastore
from .tasks import TranslationTask, TranslationTraining

UPLOAD = re.compile(r"tmp\w{8}(\.|$)")  # `tempfile`'s names
MAX_OUTPUT_GB = 2.0  # a response with its facts is assembled in memory


class TranslationApp(MONAILabelApp):
    """MONAI Label app that serves the bundles of a folder.

    Args:
        app_dir: The app's folder.
        studies: A folder of images, or the address of a DICOMweb server.
        conf: `bundles`, the folder of the bundles (default: `bundles` in the app's folder); `models`, names of the
            bundles to serve, separated by commas (default: all); `max_output_gb`, the largest output that is sent
            (default: 2).
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        folder = Path(conf.get("bundles") or Path(app_dir, "bundles"))
        self.bundles = find_bundles(folder.resolve(), conf.get("models"))
        self.max_output_gb = float(conf.get("max_output_gb", MAX_OUTPUT_GB))
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="Image translation",
            description="Translates one medical image into another, with MONAI bundles. RESEARCH USE ONLY.",
            version=__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        return {root.name: TranslationTask(root, max_output_gb=self.max_output_gb) for root in self.bundles}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {root.name: TranslationTraining(root, Path(self.studies)) for root in self.bundles}

    def init_datastore(self) -> Datastore:
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return StudiesDatastore(
            self.studies,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run an inference; an unknown model or image gives status 404, where MONAI Label would give 500."""
        self._require_model(request.get("model"))
        image, known = str(request.get("image") or ""), (datastore or self.datastore()).list_images()
        if image not in known and not self._is_sent(image):
            hint = f"has {len(known)}, such as {known[0]!r}" if known else "is empty"
            raise HTTPException(status_code=404, detail=f"The datastore has no image {image!r}; it {hint}.")
        try:
            return super().infer(request, datastore)
        except Exception:
            if image not in known and _is_upload(Path(image)):
                Path(image).unlink(missing_ok=True)  # MONAI Label deletes an upload only on success
            raise

    def on_init_complete(self) -> None:
        """Also let `params` that are not JSON give status 400, where MONAI Label would give 500."""
        super().on_init_complete()
        server = importlib.import_module("monailabel.app").app  # it imports this app's folder, so not at the top
        server.add_exception_handler(json.JSONDecodeError, _no_json)
        server.middleware_stack = None  # rebuilt, with the handler, on the first request

    def bundle_path(self, model: str | None) -> str | None:
        """Refuse an unknown model: MONAI Label asks for this path before it starts a task."""
        if model is not None:
            self._require_model(model)
        return super().bundle_path(model)

    def _is_sent(self, image: str) -> bool:
        """Return whether a path is an upload or belongs to a session, and is no other file of the server."""
        path, sessions = Path(image), self.sessions()
        is_session = sessions is not None and Path(sessions.store_path) in path.parents
        return (_is_upload(path) or is_session) and path.exists()

    def _require_model(self, model: Any) -> None:
        names = [root.name for root in self.bundles]
        if model not in names:
            raise HTTPException(status_code=404, detail=f"There is no model {model!r}; this server has {names}.")


async def _no_json(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(status_code=400, content={"detail": f"`params` must be JSON: {error}."})


def _is_upload(path: Path) -> bool:
    return path.parent == Path(tempfile.gettempdir()) and UPLOAD.match(path.name) is not None
