"""Damage to bytes and to JSON values, chosen by a seeded generator."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

STRANGE = (0, -1, 1, 255, 3.5, 1e308, -1e-308, 2**63, "", "x", "../../x", "\0", "é", None, True, [], {}, [[]], {"a": 1})


def damaged(content: bytes, random: np.random.Generator, *, head: int) -> bytes:
    """
    One to eight damages: a bit, a byte, a run of zeros or ones, a piece left out, doubled or put in, or a cut.

    Args:
        content: of a file.
        random: chooses.
        head: bytes at the start, where half of the damages are.
    """
    data = bytearray(content)
    for _ in range(int(random.choice([1, 1, 1, 2, 3, 8]))):
        if not data:
            break
        limit = min(head, len(data)) if random.random() < 0.5 else len(data)
        at, length = int(random.integers(limit)), int(random.integers(1, 17))
        match int(random.integers(8)):
            case 0 | 1:
                data[at] ^= 1 << int(random.integers(8))
            case 2 | 3:
                data[at] = int(random.integers(256))
            case 4:
                data[at : at + length] = bytes([int(random.choice([0, 255]))]) * len(data[at : at + length])
            case 5:
                del data[at : at + length]
            case 6:
                data[at:at] = random.bytes(length)
            case 7:
                del data[at:]
    return bytes(data)


def replaced(document: Any, random: np.random.Generator) -> Any:
    """A copy of a JSON document of which one to three values are others, absent, doubled or moved."""
    root = {"": copy.deepcopy(document)}
    for _ in range(int(random.integers(1, 4))):
        places = list(_places(root))
        holder, key = places[int(random.integers(len(places)))]
        other_holder, other = places[int(random.integers(len(places)))]
        match int(random.integers(4)):
            case 0 | 1:
                holder[key] = copy.deepcopy(STRANGE[int(random.integers(len(STRANGE)))])
            case 2:
                holder[key] = copy.deepcopy(other_holder[other])
            case 3 if holder is not root:
                del holder[key]
    return root[""]


def _places(value: Any) -> Any:
    """Every value of a document, as its container and its key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)
