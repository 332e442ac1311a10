"""Reports: one self-contained HTML page a run."""

from __future__ import annotations

from .report import write_report
from .text import results_table
from .verdict import Verdict, verdict

__all__ = ["Verdict", "results_table", "verdict", "write_report"]
