"""Outputs that appear whole or not at all: written in a hidden folder, then renamed."""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ..whole_file import partial_name, partials_of_the_dead

NAME = f"outputs.{socket.gethostname()}"  # nodes share a folder, and cannot see if each other's processes live


class Staging:
    """
    A context with a hidden folder below an output folder; what was not published when it ends is removed.

    A process that is killed leaves the hidden folder, and nothing under an output's name; the next one on
    the same machine removes it.

    Args:
        output_dir: where the outputs go; it is made if it does not exist.

    Attributes:
        folder: the hidden one, once entered.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     with Staging(out) as staging:
        ...         _ = (staging.folder / "a.txt").write_text("whole")
        ...         _ = staging.publish([staging.folder / "a.txt"])
        ...     [path.name for path in Path(out).iterdir()]
        ['a.txt']
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.folder = partial_name(self.output_dir / NAME)

    def __enter__(self) -> Staging:
        for left in partials_of_the_dead(self.output_dir / NAME):
            shutil.rmtree(left, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self, staged: Sequence[Path]) -> list[Path]:
        """
        Move files and folders to the same place below the output folder, one after the other; what is there goes.

        Args:
            staged: paths below `folder`.

        Returns:
            their new paths.
        """
        published = []
        for path in staged:
            final = self.output_dir / path.relative_to(self.folder)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():  # a folder cannot be replaced by renaming alone
                final.rename(self.folder / f".old-{uuid.uuid4().hex[:8]}")
            os.replace(path, final)
            published.append(final)
        return published
