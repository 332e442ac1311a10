"""Reports: one self-contained HTML page a run."""

from __future__ import annotations

from .report import write_report
from .text import results_table
from .verdict import Verdict, overall, verdict

__all__ = ["Verdict", "overall", "results_table", "verdict", "write_report"]
