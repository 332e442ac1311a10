"""NVIDIA FLARE's list of the classes that a job may name, which each site keeps itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIST = "class_allow_list"


def allow_classes(job: str | Path, local_dir: str | Path) -> list[str]:
    """
    Add the classes that a job names to a site's `class_allow_list`, so that FLARE builds these and no others.

    FLARE refuses jobs with classes outside of this list, on which its own are. The owner of the site decides: read
    what is returned, or look into the job's two JSON files.

    Args:
        job: folder of `write_job`.
        local_dir: the site's folder `local`, as FLARE provisioned it; for the simulator, `local` in its workspace.

    Returns:
        the classes that were not in the list before.

    Raises:
        FileNotFoundError: when the job has no configuration.
        ValueError: when the site's list is none.
    """
    configs = sorted(Path(job).glob("app/config/config_fed_*.json"))
    if not configs:
        raise FileNotFoundError(f"{str(job)!r} has no app/config/config_fed_*.json: `job` must be a folder of a job.")
    needed = sorted({path for config in configs for path in _paths(json.loads(config.read_text(encoding="utf-8")))})
    file = Path(local_dir) / "resources.json"
    provisioned = file if file.is_file() else file.with_name(f"{file.name}.default")
    resources: dict[str, Any] = {"format_version": 2}
    if provisioned.is_file():
        resources = json.loads(provisioned.read_text(encoding="utf-8"))
    allowed = resources.get(LIST, [])
    if not isinstance(allowed, list):
        raise ValueError(f"`{LIST}` in {str(provisioned)!r} must be a list of class names, got {allowed!r}.")
    added = [path for path in needed if path not in allowed]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**resources, LIST: [*allowed, *added]}, indent=2) + "\n", encoding="utf-8")
    return added


def _paths(config: Any) -> Iterator[str]:
    """Of the components of a job: FLARE names a class by `path`."""
    if isinstance(config, dict):
        if isinstance(config.get("path"), str):
            yield config["path"]
        for value in config.values():
            yield from _paths(value)
    elif isinstance(config, list):
        for value in config:
            yield from _paths(value)
