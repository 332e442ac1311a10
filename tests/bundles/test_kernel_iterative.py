"""The weights for iterative reconstructions on a phantom patient whom nothing was trained on: what the pages claim."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from benchmarks.iterative_kernels import network_converter, psnr
from common.phantoms.chest.iterative import CHEST_ITERATIVE, make_chest_iterative
from tests.helpers.bundles import ROOT

MODELS = ROOT / "bundles" / "ggcl" / "models" / "iterative"
LINEAR = ("B30f", "B50f", "B70f")
PART = (slice(100, 356), slice(130, 386))  # of the slice, through lung, heart and spine

RECORDED = {
    "B30f->B50f": 50.56,
    "B30f->B70f": 33.33,
    "B30f->I50f": 49.50,
    "B50f->I50f": 50.22,
    "B70f->B30f": 45.45,
    "B70f->B50f": 42.39,
    "B70f->I50f": 45.76,
    "I50f->B30f": 49.05,
    "I50f->B50f": 42.61,
    "I50f->B70f": 32.13,
}


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, float]]:
    """PSNR of the network, of its filters alone, and of the source, by direction."""
    volumes = make_chest_iterative(0, CHEST_ITERATIVE.check_parameters(slices=1, seed=20))
    pixel_mm = float(np.linalg.norm(volumes["B30f"].affine[:3, 0]))
    images = {name: np.rint(volumes[name].data[PART]).astype(np.float32) for name in (*LINEAR, "I50f")}
    whole, bare = (network_converter(MODELS, residual=residual) for residual in (True, False))
    found = {}
    for source, target in permutations(images, 2):
        if source != "B50f" or target == "I50f":
            arguments = images[source], (pixel_mm, pixel_mm), source, target
            outputs = {"network": whole(*arguments), "filter": bare(*arguments), "identity": images[source]}
            found[f"{source}->{target}"] = {name: psnr(output, images[target]) for name, output in outputs.items()}
    return found


def test_the_weights_saw_another_seed():
    told = json.loads((MODELS / "network.json").read_text())["training_data"]["parameters"]
    assert told["kind"] == "chest_iterative"
    assert told["seed"] != 20


@pytest.mark.parametrize("source", LINEAR)
def test_into_an_iterative_reconstruction_the_network_is_ahead_of_its_filter_and_of_the_source(scores, source):
    score = scores[f"{source}->I50f"]
    assert score["network"] > score["filter"] + 3
    assert score["filter"] > score["identity"]


@pytest.mark.parametrize("target", LINEAR)
def test_out_of_it_the_network_is_not_behind(scores, target):
    score = scores[f"I50f->{target}"]
    assert score["network"] > score["filter"]


def test_between_linear_kernels_it_is_the_filter(scores):
    for direction, score in scores.items():
        if "I50f" not in direction:
            assert score["network"] == score["filter"]
            assert score["network"] > score["identity"] + 4


def test_the_recorded_numbers(scores):
    """PSNR in dB when the weights were shipped; a change of the code that alters outputs shows here."""
    assert {name: score["network"] for name, score in scores.items()} == pytest.approx(RECORDED, abs=0.05)


def test_weights_are_small_and_said_to_be_what_they_are():
    assert (MODELS / "model.pt").stat().st_size < 2e6
    text = (MODELS.parent / "README.md").read_text()
    for word in ("models/iterative", "pairs", "neither"):
        assert word in text
