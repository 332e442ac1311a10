"""Reports: one self-contained HTML page a run."""

from __future__ import annotations

from .reading import write_reading_sheet
from .reading_files import reading_results
from .report import write_report
from .text import results_table
from .verdict import Verdict, overall, verdict

__all__ = [
    "Verdict",
    "overall",
    "reading_results",
    "results_table",
    "verdict",
    "write_reading_sheet",
    "write_report",
]
