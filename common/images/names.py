"""Names of volumes: the file of an image, and the name of its translation."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import FolderLayout

SOURCE = "source_domain"  # key of a volume's meta data: the domain that it shows, where it is known
WINDOWS = os.name == "nt"
FORBIDDEN = re.compile(r'[<>:"/\\|?*]')


def file_name(image: Any) -> str:
    """Return the quoted file that a MetaTensor was loaded from, or 'the image'."""
    path = source_path(image)
    return repr(path) if path else "the image"


def source_path(image: Any) -> str | None:
    """Return the file or folder that a MetaTensor was loaded from, or the name of several files; None if unknown."""
    name = getattr(image, "meta", {}).get("filename_or_obj")
    if isinstance(name, Sequence) and not isinstance(name, str):
        name = name[0] if len(name) else None
    return str(name) if name else None


def output_layout(
    output_dir: str | Path, target: str | Mapping[str, float], *, data_root_dir: str | Path, extension: str = ".nii.gz"
) -> FolderLayout:
    """Return the layout of outputs: `layout.filename(source)` is the path that `save_volume` writes.

    Args:
        output_dir: Folder of the outputs; it is not created.
        target: A domain, or the weights of a blend.
        data_root_dir: Folder of the sources; outputs keep the path below it.
        extension: Extension of the output file.

    Example:
        >>> Path(output_layout("/out", "T2", data_root_dir="/data").filename("/data/a/scan.nii.gz")).as_posix()
        '/out/a/scan_synthetic_T2.nii.gz'
    """
    return FolderLayout(
        str(output_dir),
        postfix=f"synthetic_{target_name(target)}",
        extension=extension,
        makedirs=False,
        data_root_dir=str(data_root_dir),
    )


def target_name(target: str | Mapping[str, float]) -> str:
    """Return a target as part of a file name.

    Args:
        target: A domain, or the weights of a blend.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> target_name({"B30f": 0.5, "B70f": 0.5})
        '0.5B30f+0.5B70f'
    """
    if isinstance(target, str) and target:
        return _permitted(target)
    if not isinstance(target, Mapping) or not target or not all(isinstance(w, (int, float)) for w in target.values()):
        raise ValueError(f"`target` must be the name of a domain, or the weights of a blend, got {target!r}.")
    return _permitted("+".join(f"{weight:g}{name}" for name, weight in target.items()))


def _permitted(name: str) -> str:
    """Replace what Windows does not permit in a file's name; other systems keep it."""
    return FORBIDDEN.sub("_", name) if WINDOWS else name
