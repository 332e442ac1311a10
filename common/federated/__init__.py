"""Federated learning: several hospitals train one generator, and the images stay where they are."""

from .checks import site_path
from .job import allow_classes, statistics_transforms, statistics_workflow, write_job
from .site_algo import SiteAlgo

__all__ = ["SiteAlgo", "allow_classes", "site_path", "statistics_transforms", "statistics_workflow", "write_job"]
