"""Without MONAI Label, which has an environment of its own, the modules that import it hold no doctest to collect."""

from __future__ import annotations

import importlib.util

needs_monailabel = ["app.py", "datastore.py", "tasks.py"]
collect_ignore = [] if importlib.util.find_spec("monailabel") else needs_monailabel
