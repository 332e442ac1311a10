"""Federated learning: several hospitals train one generator, and the images stay where they are."""

from .job import write_job
from .places import site_path
from .policy import allow_classes
from .site_algo import SiteAlgo
from .statistics import statistics_transforms, statistics_workflow

__all__ = ["SiteAlgo", "allow_classes", "site_path", "statistics_transforms", "statistics_workflow", "write_job"]
