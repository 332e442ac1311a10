"""The leaderboard: every method of a bundle at one budget, on the same held-out patients, in one table."""

from .boards import BOARDS, Board
from .page import write_page
from .run import RunFailedError, run_leaderboard

__all__ = [
    "BOARDS",
    "Board",
    "RunFailedError",
    "run_leaderboard",
    "write_page",
]
