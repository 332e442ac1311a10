"""Reports: one self-contained HTML page per run."""

from .features import cluster_features, write_features
from .reading import reading_results, write_reading_sheet
from .report import write_report
from .scores import Verdict, overall, verdict
from .tables import results_table

__all__ = [
    "Verdict",
    "cluster_features",
    "overall",
    "reading_results",
    "results_table",
    "verdict",
    "write_features",
    "write_reading_sheet",
    "write_report",
]
