"""Fluid, black in T1, must be bright in T2: measured on true pairs, on FLAIR, and on what is no T2."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from common.inference.fluid import brain_middle, fluid_brightness
from common.inference.output_check import LEAST_FLUID, OutputCheck, PairedSlices
from tests.helpers.shared import require_shared

PAIRS = [
    "TCGA-FG-6692_{}_brain",
    "cstar_stroke_{}",
    "openms_cross07_{}",
    "openms_cross19_{}",
    "openms_long01_study1_{}",
]
PAIRS += ["openms_long01_study2_{}", "openms_long03_study2_{}", "openms_long04_study1_{}"]


def load(name: str) -> tuple[np.ndarray, tuple[float, ...]]:
    image = nib.as_closest_canonical(nib.load(require_shared("data", "brain_mri", f"{name}.nii.gz")))
    return np.asarray(image.dataobj, dtype=np.float32), image.header.get_zooms()


@pytest.mark.parametrize("pair", PAIRS)
def test_every_true_t2_has_bright_fluid_and_what_is_none_has_not(pair):
    lower = "TCGA" in pair
    t1, spacing = load(pair.format("t1" if lower else "T1"))
    t2, _ = load(pair.format("t2" if lower else "T2"))
    middle = brain_middle(t1, spacing)
    assert fluid_brightness(t1, t2, middle) > 1.5 * LEAST_FLUID
    assert fluid_brightness(t1, t1, middle) < 0.5  # the source itself
    assert fluid_brightness(t1, np.sqrt(abs(t1)), middle) < 0.8


@pytest.mark.parametrize(
    "pair", ["cstar_stroke_{}", "openms_cross07_{}", "openms_cross19_{}", "openms_long01_study1_{}"]
)
def test_flair_is_no_t2(pair):
    t1, spacing = load(pair.format("T1"))
    assert fluid_brightness(t1, load(pair.format("FLAIR"))[0], brain_middle(t1, spacing)) < 0.6


def test_without_fluid_there_is_no_verdict():
    head = np.where(np.hypot(*np.mgrid[-40:40, -40:40])[..., None] < 38, 100.0, 0.0).repeat(40, -1)
    middle = brain_middle(head, (2.5, 2.5, 3.0))
    assert middle.any()
    assert middle[40, 40, 20]
    assert not middle[:, :, -9:].any()  # less than 30 mm below the top
    assert fluid_brightness(head, 200 - head, middle) is None
    assert not brain_middle(np.zeros((8, 8, 3)), (1, 1, 1)).any()


@pytest.mark.parametrize(
    ("brightness", "verdict"), [(0.75, "warned"), (1.49, "warned"), (1.5, "passed"), (2.8, "passed")]
)
def test_black_fluid_is_doubted(brightness, verdict, caplog):
    pair = PairedSlices((1.0, 1.0))
    image = np.random.default_rng(0).uniform(1, 100, (32, 32))
    pair.add(image, 100 - image)
    findings = OutputCheck("MR", (0.0, 100.0))(pair, "scan", correlation=-0.8, fluid=brightness)
    (finding,) = (found for found in findings if found.check == "fluid")
    assert finding.verdict == verdict
    assert ("fluid, black in T1, is not brighter than tissue" in caplog.text) == (verdict == "warned")
