"""What a job may not bring along: a federation's server sends names and numbers, and no code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..networks.definition import PUBLIC_PACKAGE


def refuse_code(options: Any, what: str) -> None:
    """
    Refuse configuration values that MONAI would execute.

    A string that begins with `$` is evaluated, one with `%` reads another file, `_target_` is called. The networks of
    this package are the exception: to build one is harmless.

    Args:
        options: values of any depth.
        what: their name, for the message.

    Raises:
        ValueError: naming the value.

    Example:
        >>> refuse_code({"batch_size": 2, "network_def": {"_target_": "common.networks.CompactGenerator"}}, "options")
    """
    if isinstance(options, dict):
        target = options.get("_target_", PUBLIC_PACKAGE)
        if not (isinstance(target, str) and f"{target}.".startswith(f"{PUBLIC_PACKAGE}.")):
            raise ValueError(f"`{what}` may name the networks of {PUBLIC_PACKAGE} only, got _target_ {target!r}.")
        for key, value in options.items():
            if "_target_" in str(key) and key != "_target_":
                raise ValueError(f"`{what}` must give a `_target_` inside of its section, got {key!r}.")
            refuse_code(value, what)
    elif isinstance(options, (list, tuple)):
        for value in options:
            refuse_code(value, what)
    elif isinstance(options, str) and options.lstrip()[:1] in ("$", "%"):
        raise ValueError(
            f"`{what}` must be plain values, got the expression {options!r}: a job brings no code. Put it into an"
            " overlay that every site has in its bundle."
        )


def refuse_foreign_files(bundle_root: str | Path, files: Sequence[str], *, app_root: str | Path = "") -> None:
    """
    Refuse YAML files that are not the site's own: outside of its bundle, or in what the server sent.

    Args:
        bundle_root: the site's bundle.
        files: relative to it.
        app_root: where the federated system unpacked the job.

    Raises:
        ValueError: naming the file.
        FileNotFoundError: when the bundle has it not.
    """
    root = Path(bundle_root).resolve()
    if app_root and root.is_relative_to(Path(app_root).resolve()):
        raise ValueError(
            f"`bundle_root` must be a bundle that the site has itself, got {str(root)!r}, which came with the job."
        )
    for file in files:
        path = (root / file).resolve()
        if not path.is_relative_to(root):
            raise ValueError(f"a configuration file must lie in the site's bundle {str(root)!r}, got {file!r}.")
        if not path.is_file():
            raise FileNotFoundError(f"the site's bundle {str(root)!r} has no file {file!r}.")
