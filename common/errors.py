"""Errors that we raise for what a user gave; the command line shows their message alone."""

from __future__ import annotations


class DiskFullError(OSError):
    """An output does not fit on the disk; nothing of it is left there."""


EXPECTED = (
    ValueError,
    FileNotFoundError,
    NotADirectoryError,
    FileExistsError,
    FloatingPointError,
    DiskFullError,
)
