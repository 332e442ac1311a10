"""Names of volumes: the file of an image, and the name of its translation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import FolderLayout

from ..files import refuse_outside, safe_name

SOURCE = "source_domain"  # key of a volume's meta data: the domain that it shows, where it is known
MAP_SUFFIX = "_uncertainty"  # of the map of half-widths, after the name of the output that it belongs to
WINDOWS = os.name == "nt"
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # by Windows
SEPARATORS = re.compile(r"[/\x00-\x1f\x7f]")


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


def is_map(name: str | Path) -> bool:
    """Return whether a file or folder is named as a map of half-widths.

    Args:
        name: Name or path.

    Example:
        >>> is_map("scan_synthetic_T2_uncertainty.nii.gz"), is_map("scan_synthetic_T2.nii.gz")
        (True, False)
    """
    return Path(name).name.removesuffix(".gz").removesuffix(".nii").endswith(MAP_SUFFIX)


def output_layout(
    output_dir: str | Path, target: str | Mapping[str, float], *, data_root_dir: str | Path, extension: str = ".nii.gz"
) -> OutputLayout:
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
    return OutputLayout(
        str(output_dir),
        postfix=f"synthetic_{target_name(target)}",
        extension=extension,
        makedirs=False,
        data_root_dir=str(data_root_dir),
    )


def refuse_equal_names(sources: Iterable[str], *, data_root_dir: str | Path) -> None:
    """Refuse, before work starts, sources whose outputs would have one name, such as `a.nii` and `a.nii.gz`.

    Args:
        sources: Paths of the sources, or names after which outputs are named.
        data_root_dir: Folder of the sources; outputs keep the path below it.

    Raises:
        ValueError: If the outputs of two sources would overwrite each other.

    Example:
        >>> refuse_equal_names(["/data/a.nii", "/data/a.nrrd"], data_root_dir="/data")
        Traceback (most recent call last):
        ...
        ValueError: '/data/a.nii' and '/data/a.nrrd' would have one output, and the second would overwrite the ...
    """
    layout = output_layout("", "t", data_root_dir=data_root_dir, extension="")
    taken: dict[str, str] = {}
    for source in dict.fromkeys(map(str, sources)):
        other = taken.setdefault(os.path.normcase(layout.filename(source)), source)
        if other != source:
            raise ValueError(
                f"{other!r} and {source!r} would have one output, and the second would overwrite the first: rename one"
                " of them, or translate them one by one into different folders."
            )


class OutputLayout(FolderLayout):
    """MONAI's layout, which refuses a name that leads out of the folder of the outputs."""

    def filename(self, subject: Any = "subject", idx: Any = None, **options: Any) -> Any:
        """Return the path of an output.

        Raises:
            ValueError: If the source is not below `data_root_dir`, or a link leads out of the folder of the outputs.
        """
        path = super().filename(subject, idx, **options)
        refuse_outside(str(self.output_dir), str(path))
        return path


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
    """Replace separators of paths and control characters, and what Windows does not permit; other systems keep that."""
    return safe_name(name, replaced=FORBIDDEN if WINDOWS else SEPARATORS, fill="_", strip=False, distinct=True)
