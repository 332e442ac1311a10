"""The bundles that an app serves, and the app's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

NEEDED = ("inference.yaml", "train.yaml", "metadata.json")
MAIN = '''"""Serves the bundles beside this file: `monailabel start_server --app THIS_FOLDER --studies IMAGES`."""

from common.deploy.monailabel.app import TranslationApp


class App(TranslationApp):
    """MONAI Label looks for a class that is defined in this file."""
'''


def make_app(app_dir: str | Path, *bundle_roots: str | Path) -> Path:
    """Create the folder for `monailabel start_server --app`, with copies of bundles, which training may change.

    Args:
        app_dir: Folder of the app; bundles are added to an existing one.
        bundle_roots: Folders of bundles, from a source tree or unpacked releases.

    Returns:
        The app's folder.

    Raises:
        ValueError: If a folder is not a bundle.
        FileExistsError: If the app has a bundle of that name.
    """
    app, bundles = Path(app_dir), Path(app_dir, "bundles")
    copies = {root: bundles / root.name for root in (Path(given).resolve() for given in bundle_roots)}
    for root, copy in copies.items():
        if not _is_bundle(root):
            raise ValueError(f"{str(root)!r} is not a bundle: it needs {', '.join(NEEDED)} in configs.")
        if copy.exists():
            raise FileExistsError(f"The app has a bundle {root.name!r} already: remove {str(copy)!r} first.")
    bundles.mkdir(parents=True, exist_ok=True)
    (app / "main.py").write_text(MAIN, encoding="utf-8")
    for root, copy in copies.items():
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("data", "output", "__pycache__"))
    return app


def find_bundles(folder: Path, names: str | None = None) -> list[Path]:
    """Find the bundles in a folder.

    Args:
        folder: Folder whose sub-folders with configs are bundles.
        names: Names of the wanted bundles, separated by commas; default: all.

    Raises:
        ValueError: If there is none, or a wanted one is missing.
    """
    found = {root.name: root for root in sorted(folder.glob("*")) if _is_bundle(root)}
    wanted = [name.strip() for name in names.split(",")] if names else list(found)
    absent = [name for name in wanted if name not in found]
    if absent or not wanted:
        raise ValueError(
            f"{str(folder)!r} has the bundles {list(found)}, not {absent or 'any'}. Choose with `--conf models`, or put"
            " others there: `python -m common.deploy.monailabel APP BUNDLE...`."
        )
    return [found[name] for name in wanted]


def _is_bundle(root: Path) -> bool:
    return all((root / "configs" / name).is_file() for name in NEEDED)
