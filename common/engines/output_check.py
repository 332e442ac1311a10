"""Looking at a translation before it is written: its range, its structure, the jumps between its slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..metrics import foreground_mask
from ..transforms.contrast import NOT_INVERTED
from ..transforms.findings import PASSED, WARNED, Finding
from .output_measures import PairedSlices, edge_agreement, overlap, slice_jump

logger = logging.getLogger(__name__)

BODY_HU = -300.0
SLACK = 0.1  # of the range of values: interpolation carries a change across an edge
INT16 = (-32768.0, 32767.0)
LEAST_EDGES = 0.3
LEAST_OVERLAP = 0.9
MOST_JUMP = 2.0  # times the source's


class OutputCheck:
    """
    Judges a translation against its source.

    | check | measured | limit |
    |---|---|---|
    | finite | values that are NaN or infinite | none: refused |
    | range | smallest and largest value | CT: the codec's range and the source's, with a tenth of the codec's width; \
MR: the codec's |
    | structure | correlation of the edges' steepness in the body | 0.3 or more |
    | body | Dice's coefficient of both bodies | 0.9 or more |
    | slices | mean jump between neighbouring slices over the source's | 2 or less |
    | contrast | correlation of the values in the brain, where contrast must be inverted | -0.1 or less |

    Args:
        modality: `CT`, in HU, or `MR`.
        value_range: of the codec, in the output's units.

    Raises:
        ValueError: when `modality` is another.
    """

    def __init__(self, modality: str, value_range: Sequence[float]) -> None:
        if modality not in ("CT", "MR"):
            raise ValueError(f"`modality` must be 'CT' or 'MR', got {modality!r}.")
        self.modality = modality
        self.value_range = float(value_range[0]), float(value_range[1])

    def __call__(self, pair: PairedSlices, name: str, *, correlation: float | None = None) -> list[Finding]:
        """
        Judge all slices; what failed is logged as a warning.

        Args:
            pair: of source and translation.
            name: of the source, for the messages.
            correlation: of the values of source and translation, where it must be negative, as from T1 to T2.

        Raises:
            ValueError: when the translation has values that no file should hold.
        """
        self.refuse(pair, name)
        source, output = pair.volumes()
        bodies = self._body(source), self._body(output)
        either = bodies[0] | bodies[1]
        jumps = slice_jump(source, bodies[0]), slice_jump(output, bodies[0])
        findings = [
            Finding("finite", PASSED, 0, 0),
            self._range(pair),
            _least("structure", edge_agreement(source, output, either), LEAST_EDGES),
            _least("body", overlap(*bodies), LEAST_OVERLAP),
            _most("slices", jumps[1] / jumps[0] if jumps[0] > 0 else 1.0, MOST_JUMP),
        ]
        if correlation is not None:
            findings.append(_most("contrast", correlation, NOT_INVERTED))
        for finding in findings:
            if finding.verdict != PASSED:
                logger.warning(
                    f"The translation of {name} is doubtful: {MEANING[finding.check]} (measured {finding.value}, limit"
                    f" {finding.limit}). Look at it beside its source before you use it."
                )
        return findings

    def refuse(self, pair: PairedSlices, name: str) -> None:
        """
        Raises:
            ValueError: for NaN and infinity, and for CT beyond 16 bit.
        """
        if pair.output.not_finite:
            raise ValueError(
                f"The translation of {name} has {pair.output.not_finite} NaN or infinite values; it was not written."
                " Check the weights, and the values of the image."
            )
        if self.modality == "CT" and not INT16[0] <= pair.output.low <= pair.output.high <= INT16[1]:
            raise ValueError(
                f"The translation of {name} has {pair.output.low:g} to {pair.output.high:g} HU, more than 16 bit hold;"
                " it was not written. Clip the metal of the image to 32767 HU or less."
            )

    def _body(self, volume: np.ndarray) -> np.ndarray:
        return volume > BODY_HU if self.modality == "CT" else foreground_mask(volume)

    def _range(self, pair: PairedSlices) -> Finding:
        low, high = self.value_range
        slack = SLACK * (high - low) if self.modality == "CT" else 1e-3 * (high - low)  # single precision
        if self.modality == "CT":
            low, high = min(low, pair.source.low), max(high, pair.source.high)
        value, limit = (pair.output.low, pair.output.high), (low - slack, high + slack)
        inside = limit[0] <= value[0] and value[1] <= limit[1]
        return Finding("range", PASSED if inside else WARNED, _rounded(value), _rounded(limit))


MEANING = {
    "range": "it has values that neither the source nor the network's range has",
    "structure": "its edges are not where the source's are",
    "body": "its body is not where the source's is",
    "slices": "neighbouring slices differ more than in the source",
    "contrast": "the contrast was not inverted; T1 and T2 of one patient correlate by -0.65 to -0.2 inside the brain",
}


def _least(check: str, value: float, limit: float) -> Finding:
    return Finding(check, PASSED if value >= limit else WARNED, round(value, 4), limit)


def _most(check: str, value: float, limit: float) -> Finding:
    return Finding(check, PASSED if value <= limit else WARNED, round(value, 4), limit)


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
