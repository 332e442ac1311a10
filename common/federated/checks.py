"""Checks of a site before it takes part in a round: MONAI's client would go on with each of these faults.

They cover the site's configuration and data, paths in a job that each site fills in (`$FEDERATED_DIR/$SITE/data`), and
files that a job must not bring. What it may set is in `common.federated.policy`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.networks.utils import get_state_dict
from torch import nn

from .. import preflight
from ..bundles import BUNDLES
from ..engines.trainer import TranslationTrainer

FOLDER, FOLDERS = "FEDERATED_DIR", "FEDERATED_FOLDERS"  # of a site's environment


def check_configuration(bundle_root: str, files: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Run the checks of a bundle's `run` list, which `MonaiAlgo`, calling only the trainer, skips.

    Returns:
        Further options, which make overlays of earlier versions work.

    Raises:
        ValueError: If an id of the files or options has no use.
        FileNotFoundError: If `dataset_dir` of the options does not exist.
    """
    parser = ConfigParser()
    parser.read_config([str(Path(bundle_root, file)) for file in files])
    parser.update({**options, "bundle_root": bundle_root})
    restored = preflight.restore_former_sections(parser)
    preflight.check(exists=options["dataset_dir"], config=parser)
    return restored


def refuse_empty_epochs(trainer: TranslationTrainer, site: str) -> None:
    """Refuse a site without an iteration: it would return the global weights, and FLARE would count one iteration.

    Raises:
        ValueError: If the site has less than a batch of images.
    """
    loader: Any = trainer.data_loader
    if len(loader) == 0:
        raise ValueError(
            f"site {site!r} has {len(loader.dataset)} images to train on, less than one batch of {loader.batch_size}:"
            " give it more, or all sites a smaller `batch_size`."
        )


def check_weights(network: nn.Module, weights: Mapping[str, Any] | None) -> None:
    """Check that global weights are the network's in full; `MonaiAlgo` accepts a single name in common.

    Raises:
        ValueError: Naming some that differ.
    """
    own = {name: tuple(value.shape) for name, value in get_state_dict(network).items()}
    given = {name: tuple(np.shape(value)) for name, value in (weights or {}).items()}
    wrong = sorted(name for name in {**own, **given} if given.get(name) != own.get(name))
    if wrong:
        raise ValueError(
            f"the global weights must be those of this site's {type(network).__name__}, but {', '.join(wrong[:3])}"
            " differ in name or shape: give all sites and the server one bundle, overlay and set of options."
        )


def site_path(path: str, *, site: str, app_root: str = "") -> str:
    """Resolve a path of a job on this site's machine.

    Args:
        path: Path, which may contain `$SITE`, `$APP_ROOT` and variables of the site's environment.
        site: Name of the site, for `$SITE`.
        app_root: Folder in which the federated system unpacked the job, for `$APP_ROOT`.

    Raises:
        ValueError: If a variable is not set, or `site` is not a valid name of a folder.

    Example:
        >>> site_path("/hospitals/$SITE/data", site="site-1")
        '/hospitals/site-1/data'
    """
    if site != os.path.basename(site) or site in ("", ".", ".."):
        raise ValueError(f"`site` must be a name that a folder can have, got {site!r}.")
    try:
        return Template(path).substitute({**os.environ, "SITE": site, "APP_ROOT": app_root})
    except KeyError as error:
        raise ValueError(
            f"{path!r} needs the environment variable {error.args[0]!r}, which is not set on {site!r}: export it before"
            " the client is started (docs/federated.md)."
        ) from None


def refuse_foreign_folders(places: Mapping[str, str | Path], *, app_root: str | Path = "") -> None:
    """Refuse folders that a job names, after links and variables, outside of those that the site has opened to jobs.

    Open are `$FEDERATED_DIR` and the folders in `$FEDERATED_FOLDERS` (separated as in `PATH`); for `bundle_root` also
    the bundles beside this installation, and for `output_dir` the folder of the job itself.

    Args:
        places: Resolved paths by name: `bundle_root`, `dataset_dir` and `output_dir`.
        app_root: Folder in which the federated system unpacked the job.

    Raises:
        ValueError: If a folder lies elsewhere; the message names it and how the site opens a folder.
    """
    given = [os.environ.get(FOLDER, ""), *os.environ.get(FOLDERS, "").split(os.pathsep)]
    opened = [Path(folder).resolve() for folder in given if folder]
    own = {"bundle_root": [BUNDLES.resolve()], "output_dir": [Path(app_root).resolve()] if app_root else []}
    for name, place in places.items():
        path = Path(place).resolve()
        if not any(path.is_relative_to(folder) for folder in [*opened, *own.get(name, [])]):
            raise ValueError(
                f"`{name}` of a job must lie in a folder that this site has opened to jobs, got {str(path)!r}. The site"
                f" opens folders by the environment variables {FOLDER} and {FOLDERS}; they are {opened or 'not set'}."
            )


def refuse_foreign_files(bundle_root: str | Path, files: Sequence[str], *, app_root: str | Path = "") -> None:
    """Refuse YAML files that are not the site's own: outside its bundle, or in what the server sent.

    Args:
        bundle_root: Bundle of the site.
        files: Paths relative to it.
        app_root: Folder in which the federated system unpacked the job.

    Raises:
        ValueError: If a file is not the site's own; the message names it.
        FileNotFoundError: If the bundle lacks it.
    """
    root = Path(bundle_root).resolve()
    if app_root and any(root.is_relative_to(folder) for folder in _unpacked(Path(app_root).resolve())):
        raise ValueError(
            f"`bundle_root` must be a bundle that the site has itself, got {str(root)!r}, which came with a job."
        )
    for file in files:
        path = (root / file).resolve()
        if not path.is_relative_to(root):
            raise ValueError(f"a configuration file must lie in the site's bundle {str(root)!r}, got {file!r}.")
        if not path.is_file():
            raise FileNotFoundError(f"the site's bundle {str(root)!r} has no file {file!r}.")


def _unpacked(app_root: Path) -> list[Path]:
    """Return the folder of this job, and of the jobs beside it: FLARE unpacks each as `<job>/app_<site>`."""
    beside = app_root.parent.parent.glob("*/app_*") if app_root.name.startswith("app_") else ()
    return [app_root, *(folder.resolve() for folder in beside)]
