"""Names, order and colours of the methods in tables and curves; which labels are disease."""

from __future__ import annotations

import re
from collections.abc import Iterable

NETWORK = "network"
IDENTITY = "identity"
UNPAIRED = ("inverted_histogram_matching", "histogram_matching", "radial_filter_unpaired")
PAIRED = ("intensity_curve", "radial_filter")
INTERPOLATED = ("bicubic", "nearest")
NAMES = {
    NETWORK: "Network",
    "blend_of_outputs": "Blend of the network's outputs",
    IDENTITY: "Identity (source as it is)",
    "histogram_matching": "Histogram matching (unpaired)",
    "inverted_histogram_matching": "Inverted histogram matching (unpaired)",
    "intensity_curve": "Intensity curve (fitted on pairs)",
    "radial_filter_unpaired": "Unpaired radial filter",
    "radial_filter": "Paired radial filter (fitted on pairs)",
    "bicubic": "Bicubic interpolation",
    "nearest": "Nearest neighbour",
}
# Colour-blind safe, each for a light and a dark page.
COLOURS = {
    NETWORK: ("#1d4ed8", "#7aa7ff"),
    IDENTITY: ("#6b7280", "#a3acb9"),
    "histogram_matching": ("#b45309", "#f0a94a"),
    "inverted_histogram_matching": ("#047857", "#4cc79a"),
    "intensity_curve": ("#be185d", "#f48ab8"),
    "radial_filter_unpaired": ("#b45309", "#f0a94a"),
    "radial_filter": ("#be185d", "#f48ab8"),
    "bicubic": ("#b45309", "#f0a94a"),
    "nearest": ("#6b7280", "#a3acb9"),
}
OTHER_COLOURS = (("#6d28d9", "#b79bff"), ("#0e7490", "#5cc8dd"), ("#854d0e", "#d9b45b"), ("#9f1239", "#ff8fa3"))

# Names of labels that are disease: these choose the slice and are outlined. All others are anatomy.
LESION = re.compile(r"tumou?r|o?edema|necro|lesion|enhanc|metasta|stroke|infarct|cyst|nodule", re.IGNORECASE)


def name_of(method: str) -> str:
    """Readable name of a method; unknown ones keep their own.

    >>> name_of("intensity_curve"), name_of("cycle_gan")
    ('Intensity curve (fitted on pairs)', 'cycle gan')
    """
    return NAMES.get(method, method.replace("_", " "))


def short_name_of(method: str) -> str:
    """The name without what stands in brackets, in lower case: for sentences and legends.

    >>> short_name_of("intensity_curve")
    'intensity curve'
    """
    return name_of(method).split(" (")[0].lower()


def direction_of(direction: str) -> str:
    """A direction as it is printed.

    >>> direction_of("T1->T2")
    'T1 → T2'
    """
    return " → ".join(part.strip() for part in direction.split("->"))


def ordered(methods: Iterable[str]) -> list[str]:
    """Network first, then other methods, then the baselines from the weakest to those fitted on pairs."""
    known = (NETWORK, IDENTITY, *reversed(INTERPOLATED), *reversed(UNPAIRED), *PAIRED)
    given = list(dict.fromkeys(methods))
    others = [method for method in given if method not in known]
    return [method for method in (known[0], *others, *known[1:]) if method in given]


def colour_of(method: str, *, dark: bool) -> str:
    """Colour of a method on a light or a dark page; the same in every picture of every run."""
    light_and_dark = COLOURS.get(method) or OTHER_COLOURS[sum(method.encode()) % len(OTHER_COLOURS)]
    return light_and_dark[dark]
