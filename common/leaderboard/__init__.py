"""The leaderboard: every method of a bundle at one budget, on the same held-out patients, in one table."""

from __future__ import annotations

from .boards import BOARDS, Board
from .one import RunFailedError
from .page import write_page
from .run import run_leaderboard

__all__ = ["BOARDS", "Board", "RunFailedError", "run_leaderboard", "write_page"]
