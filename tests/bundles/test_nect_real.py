"""The shipped weights of `nect2cect` on a patient whom they never saw, and on a phantom: what README and page claim."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.real_contrast import BUNDLE, JUDGED, RANGES, find_regions, judged, measure, outputs
from common.networks import build_network, load_weights, read_definition
from common.phantoms.abdomen.canvas import LABELS
from common.phantoms.abdomen.phantom import abdomen_parameters, make_varied_abdomen
from tests.helpers.shared import require_shared

LIMITS = json.loads(RANGES.read_text(encoding="utf-8"))["ranges"]
REACHED = (
    *("liver", "spleen", "aorta", "inferior_vena_cava", "kidney_right", "kidney_left"),
    *("fat", "lung", "cortical_bone", "air"),
)


@pytest.fixture(scope="module")
def made():
    originals = require_shared("data", "abdomen_ct", JUDGED[0]).parent
    source, label = judged(str(originals))
    return source, find_regions(source, label), outputs(str(originals), str(BUNDLE / "models"), "network")


@pytest.mark.slow
def test_the_organs_that_the_page_claims_are_enhanced_within_their_ranges(made):
    source, regions, found = made
    rows = measure(found["network"], source, regions)
    for region in REACHED:
        low, high = LIMITS[region]
        assert low <= rows[region]["change_hu"] <= high, region
    assert abs(rows["muscle"]["change_hu"]) < 1  # at the lower end of its range, as the page says
    assert rows["liver"]["change_hu"] > rows["muscle"]["change_hu"] + 30  # it knows organs


@pytest.mark.slow
def test_without_its_residual_the_network_changes_nothing(made):
    source, _, found = made
    assert np.array_equal(found["identity"], source)


def test_the_organs_of_an_unseen_phantom_are_enhanced_and_bone_is_not():
    """A patient of another seed than the training's, without noise, straight through the network."""
    definition = read_definition(BUNDLE / "models")
    network = load_weights(build_network(definition), BUNDLE / "models" / "model.pt").eval()
    low, high = definition["codec"]["hu"]
    parameters = abdomen_parameters(kind="abdomen_varied", seed=99, size=136, slices=3, slice_mm=4.0)
    volumes = make_varied_abdomen(0, parameters)  # pixels of 2.51 mm
    plain = np.moveaxis(volumes["plain"].data, -1, 0)[:, ::-1, ::-1].copy()  # to the right and forward
    encoded = torch.as_tensor((plain - low) / (high - low) * 2 - 1, dtype=torch.float32).clamp(-1, 1)[None]
    with torch.no_grad():
        change = ((network(encoded) - encoded)[0, 1] * (high - low) / 2).numpy()
    label = volumes["label"].data[::-1, ::-1, 1]
    for organ in ("liver", "aorta"):
        inside = ndimage.binary_erosion(label == LABELS[organ])  # the aorta's label has its thin branches, too
        least, most = LIMITS[organ]
        assert least <= change[inside].mean() <= most, organ
    kidney = np.isin(label, [LABELS["kidney_cortex"], LABELS["kidney_medulla"]])
    if kidney.sum() > 20:
        assert 60 < change[kidney].mean() < 200
    for tissue in ("bone", "fat"):
        assert abs(change[label == LABELS[tissue]].mean()) < 6, tissue
    assert abs(change[label == LABELS["muscle"]].mean()) < 20
