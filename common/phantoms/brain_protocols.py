"""The two protocols of the brain phantom: T1 and T2, and T2 and PD as in the IXI data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from .fields import FloatArray
from .mr_signal import SpinEcho

FLUID_T1_SD = 0.1
# Pulsating fluid loses signal in a long echo where the noise exceeds the threshold.
FLOW_THRESHOLD, FLOW_LOSS = 0.8, 0.3


def inflow(flow: FloatArray) -> FloatArray:
    """Gain of fluid in a T1-weighted image, from noise of SD 1."""
    return np.exp(FLUID_T1_SD * flow)


def pulsation(flow: FloatArray) -> FloatArray:
    """Gain of fluid in a T2-weighted image, from noise of SD 1."""
    return np.exp(-FLOW_LOSS * np.clip(flow - FLOW_THRESHOLD, 0, 2))


def at_rest(flow: FloatArray) -> FloatArray:
    """Gain of fluid in a short echo, during which it hardly moves."""
    return np.ones_like(flow)


class Weighting(NamedTuple):
    """How one image is acquired.

    Attributes:
        sequence: repetition and echo time.
        point_spread_mm: SD in the plane; echo trains blur.
        noise_sd: relative to white matter.
        fluid_gain: factor of the signal of moving fluid, from noise of SD 1.
    """

    sequence: SpinEcho
    point_spread_mm: float
    noise_sd: float
    fluid_gain: Callable[[FloatArray], FloatArray]


Protocol = Mapping[str, Weighting]

T1_T2: Protocol = {
    "T1": Weighting(SpinEcho(600, 10), 0.35, 0.035, inflow),
    "T2": Weighting(SpinEcho(4500, 95), 0.50, 0.045, pulsation),
}
# The two echoes of IXI's fast spin echo at 3 T (Hammersmith Hospital, brain-development.org): TR 5726 ms, TE 8 and 100
# ms. One receiver gives both the same noise, and white matter has 3.5 times the signal in the first echo.
T2_PD: Protocol = {
    "T2": Weighting(SpinEcho(5726, 100), 0.50, 0.045, pulsation),
    "PD": Weighting(SpinEcho(5726, 8), 0.50, 0.013, at_rest),
}
