"""Errors that we raise for what a user gave; the command line shows their message alone."""

from __future__ import annotations

EXPECTED = (ValueError, FileNotFoundError, NotADirectoryError, FileExistsError, FloatingPointError)
