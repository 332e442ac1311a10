"""Coverage of the shipped half-widths on the patients of an evaluation: measured, never fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from ..metrics.super_resolution import thick_slices
from ..uncertainty import Pair, Uncertainty, binomial_interval, in_unit_of, paired

logger = logging.getLogger(__name__)


class CoverageRows:
    """What the half-widths covered, one row per patient and direction.

    Args:
        known: Calibration of the weights; None: nothing is measured.
    """

    def __init__(self, known: Uncertainty | None) -> None:
        self.known = known
        self.rows: list[dict[str, Any]] = []
        self.left_out: dict[str, str] = {}

    def add(self, names: Mapping[str, str], source: MetaTensor, output: MetaTensor, truth: NDArray[Any] | None) -> None:
        """Measure one patient.

        Args:
            names: `patient` and `direction`.
            source: Source (1, X, Y, Z) in its own units.
            output: Output of the network.
            truth: Axial truth (X, Y, Z), on the output's grid or of thinner slices; None if there is none.
        """
        if self.known is None or truth is None:
            return
        first, second = names["direction"].split("->")
        try:
            calibrated = self.known.of(first, second)
        except ValueError as error:
            self.left_out[names["direction"]] = str(error)
            return
        volumes = [array for each in (source, output) for array in (np.asarray(each[0]), np.asarray(each.affine))]
        pair = paired(volumes[0], volumes[1], volumes[2], volumes[3], hu=self.known.hu)
        half_widths, summary = self.known.measure(pair, calibrated)
        on_output = on_grid(truth, pair)
        off = np.abs(pair.output - (on_output if self.known.hu else in_unit_of(pair, on_output)))[pair.mask]
        covered = float((off <= half_widths[pair.mask]).mean())
        self.rows.append(
            {
                **names,
                "covered": round(covered, 5),
                "half_width": summary["mean_half_width"],
                "error": round(float(off.mean()), 3),
                "novelty": summary["novelty"]["p_value"],
                "flagged": summary["novelty"]["flagged"],
            }
        )

    def summary(self) -> dict[str, Any] | None:
        """Return promise, figures of each direction, and the rows, for JSON; None if nothing was measured."""
        if self.known is None or not (self.rows or self.left_out):
            return None
        promise = self.known.content["promise"]
        found = {}
        for direction in dict.fromkeys(row["direction"] for row in self.rows):
            found[direction] = covered_patients(
                [row for row in self.rows if row["direction"] == direction], promise["coverage"]
            )
            low, high = found[direction]["interval"]
            logger.info(
                f"{direction}: {found[direction]['covered']} of {found[direction]['patients']} patients have at least"
                f" {promise['coverage']:.0%} of their voxels within the half-widths ({low:.0%} to {high:.0%}); promised"
                f" were {promise['confidence']:.0%} of patients like those calibrated on."
            )
        facts = {"unit": self.known.unit, "promise": {**promise, "sentence": self.known.sentence}}
        return {**facts, "directions": found, "left_out": self.left_out, "patients": self.rows}


def covered_patients(rows: Sequence[Mapping[str, Any]], coverage: float) -> dict[str, Any]:
    """Return how many patients have a share of their voxels covered, with the exact 95 % interval of the probability.

    Args:
        rows: Rows of one direction, with `covered`, `half_width` and `error`.
        coverage: Share of the voxels that must be covered.

    Example:
        >>> rows = [{"covered": share, "half_width": 2.0, "error": 1.0} for share in (0.95, 0.9, 0.8)]
        >>> [(found["covered"], found["patients"]) for found in [covered_patients(rows, 0.9)]]
        [(2, 3)]
    """
    covered = sum(row["covered"] >= coverage for row in rows)
    return {
        "patients": len(rows),
        "covered": covered,
        "interval": [round(end, 4) for end in binomial_interval(covered, len(rows))],
        "voxels": round(float(np.mean([row["covered"] for row in rows])), 5),
        "half_width": round(float(np.mean([row["half_width"] for row in rows])), 3),
        "error": round(float(np.mean([row["error"] for row in rows])), 3),
    }


def on_grid(array: NDArray[Any], pair: Pair) -> NDArray[np.float32]:
    """Return an axial array on the grid of the output, averaged over the output's thicker slices.

    Args:
        array: Axial array (X, Y, n Z).
        pair: Source and output.
    """
    if array.shape != pair.output.shape:
        array = thick_slices(array, pair.output.shape[2])
    return np.asarray(array, dtype=np.float32)
