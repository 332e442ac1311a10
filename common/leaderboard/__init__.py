"""The leaderboard: all methods of a bundle, trained at one budget and scored on the same held-out patients."""

from .boards import Board, find_board, find_boards
from .page import write_page
from .run import RunFailedError, run_leaderboard

__all__ = ["Board", "RunFailedError", "find_board", "find_boards", "run_leaderboard", "write_page"]
