"""Collect no doctests of modules that import MONAI Label where it is not installed: it has its own environment."""

from __future__ import annotations

import importlib.util

needs_monailabel = ["app.py", "archive.py", "datastore.py", "tasks.py"]
collect_ignore = [] if importlib.util.find_spec("monailabel") else needs_monailabel
