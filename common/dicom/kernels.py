"""Names of reconstruction kernels: which are the same, who uses them, and how sharp they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# Sharpness on the scale of the numbers that Siemens writes into its names: 30 is soft, 70 sharp. The names of the other
# manufacturers are placed by what their manuals recommend them for; they are no more than neighbours.
GE = {"SOFT": 30, "STANDARD": 40, "CHST": 45, "DETAIL": 50, "BONE": 65, "LUNG": 70, "BONEPLUS": 75, "EDGE": 80}
PHILIPS = {
    **{"UA": 25, "A": 30, "UB": 40, "B": 40, "UC": 45, "C": 50, "D": 60, "L": 70, "E": 75},
    **{"YA": 60, "YB": 65, "YC": 70, "YD": 75, "YE": 80},
}
CANON = (  # FC01 to FC86: (first, last, sharpness)
    *((1, 9, 40), (10, 19, 35), (20, 28, 40), (30, 39, 70), (40, 49, 40), (50, 59, 70), (60, 69, 40), (80, 86, 80)),
)
SIEMENS = re.compile(r"^[BDHIJQSTU][CFLMRUV]?(\d\d)[A-Z]?$")  # B30f, H31s, I30f, Br40d, Bl57, Qr59f, Ur77
CLASSES = ((35, "soft"), (45, "standard"), (59, "medium"), (100, "sharp"))


class KernelFamily(NamedTuple):
    """What the name of a kernel tells.

    Attributes:
        manufacturer: Who uses the name.
        sharpness: Sharpness on the scale of Siemens' numbers.
    """

    manufacturer: str
    sharpness: int

    @property
    def kind(self) -> str:
        """Sharpness in a word."""
        return next(word for highest, word in CLASSES if self.sharpness <= highest)


def plain_kernel(name: str) -> str:
    r"""Return a kernel's name as it is compared: without case, spaces, and the strength of an iterative method.

    Example:
        >>> plain_kernel(" b30F "), plain_kernel("Br40d\\3")
        ('B30F', 'BR40D')
    """
    return re.sub(r"\s+", "", name.split("\\", maxsplit=1)[0]).upper()


def kernel_family(name: str) -> KernelFamily | None:
    """Return the manufacturer and the sharpness of a kernel by its name, or None if it is unknown.

    Example:
        >>> kernel_family("BONEPLUS").kind, kernel_family("Br40d").sharpness, kernel_family("FC52").manufacturer
        ('sharp', 40, 'Canon')
        >>> kernel_family("nothing like it") is None
        True
    """
    plain = plain_kernel(name)
    for manufacturer, names in (("GE", GE), ("Philips", PHILIPS)):
        if plain in names:
            return KernelFamily(manufacturer, names[plain])
    if (found := re.match(r"^FC(\d\d)", plain)) is not None:
        number = int(found[1])
        sharpness = next((value for first, last, value in CANON if first <= number <= last), None)
        return None if sharpness is None else KernelFamily("Canon", sharpness)
    if (found := SIEMENS.match(plain)) is not None:
        return KernelFamily("Siemens", int(found[1]))
    return None


def matching_kernel(name: str, known: Sequence[str]) -> str | None:
    """Return the known kernel that has this name, whatever its case, or None.

    Example:
        >>> matching_kernel("b30f", ["B30f", "B70f"]), matching_kernel("I30f", ["B30f", "B70f"])
        ('B30f', None)
    """
    return next((kernel for kernel in known if plain_kernel(kernel) == plain_kernel(name)), None)


def nearest_kernel(name: str, known: Sequence[str]) -> str | None:
    """Return the known kernel whose sharpness is nearest by its name, or None if that cannot be told.

    Example:
        >>> nearest_kernel("LUNG", ["B30f", "B50f", "B70f"]), nearest_kernel("?", ["B30f"])
        ('B70f', None)
    """
    family = kernel_family(name)
    families = {kernel: found for kernel in known if (found := kernel_family(kernel)) is not None}
    if family is None or not families:
        return None
    return min(families, key=lambda kernel: abs(families[kernel].sharpness - family.sharpness))
