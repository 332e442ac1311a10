"""Blends of kernels: from where, against what, and without translating twice."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.engines.conversion_evaluator import (
    Remembering,
    blend_directions,
    blend_translators,
    blend_volumes,
    half_blends,
)

KERNELS = ["B30f", "B50f", "B70f"]
VENDORS = [*KERNELS, "SOFT", "EDGE"]


def volume(value: float) -> MetaTensor:
    return MetaTensor(torch.full((1, 2, 2, 1), value), affine=torch.diag(torch.tensor([0.7, 0.7, 2.0, 1.0])))


VOLUMES = {"B30f": volume(10.0), "B50f": volume(20.0), "B70f": volume(45.0)}


def test_by_default_the_outer_kernels_of_each_vendor_with_a_third_one_are_halved():
    assert half_blends(KERNELS) == [{"B30f": 0.5, "B70f": 0.5}]
    assert half_blends(VENDORS, [3, 2]) == [{"B30f": 0.5, "B70f": 0.5}]
    assert half_blends(["soft", "sharp"]) == []


def test_a_blend_is_made_from_the_kernels_that_are_no_part_of_it_or_from_all():
    assert blend_directions(KERNELS, [{"B30f": 0.5, "B50f": 0.5}]) == [("B70f", {"B30f": 0.5, "B50f": 0.5})]
    assert blend_directions(KERNELS, [{"B30f": 1.0}]) == [("B50f", {"B30f": 1.0}), ("B70f", {"B30f": 1.0})]
    assert blend_directions(VENDORS, [{"B30f": 1.0, "EDGE": 0.0}], [3, 2])[0] == ("B50f", {"B30f": 1.0})
    both = {"SOFT": 0.25, "EDGE": 0.75}
    assert blend_directions(VENDORS, [both], [3, 2]) == [("SOFT", both), ("EDGE", both)]


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"B30f": 0.5, "B71f": 0.5}, r"`target` must name one of the domains .*, got 'B71f'\. Did you mean 'B70f'"),
        ({"B30f": 0.5, "B70f": 0.6}, r"must sum to 1"),
        ({"B30f": 0.5, "EDGE": 0.5}, r"a blend must be of the kernels of one vendor, got .*'EDGE': 0\.5"),
    ],
)
def test_blends_that_are_none_are_refused(blend, message):
    with pytest.raises(ValueError, match=message):
        blend_directions(VENDORS, [blend], [3, 2])


def test_the_weights_multiply_the_volumes():
    blend = blend_volumes(VOLUMES.__getitem__, {"B30f": 0.25, "B70f": 0.75})
    torch.testing.assert_close(blend.as_tensor(), torch.full((1, 2, 2, 1), 0.25 * 10 + 0.75 * 45))
    torch.testing.assert_close(blend.affine, VOLUMES["B30f"].affine)


def test_the_network_gets_the_blend_and_its_outputs_are_blended_without_translating_again():
    calls = []

    def translate(image, target):
        calls.append(target)
        return VOLUMES[target] if isinstance(target, str) else volume(30.0)

    network = Remembering(translate)
    source, halves = volume(0.0), {"B30f": 0.5, "B70f": 0.5}
    for target in halves:
        network(source, target)
    blended = blend_translators({"network": network, "identity": Remembering(lambda image, target: image)})
    assert list(blended) == ["network", "blend_of_outputs", "identity"]
    assert blended["network"](source, halves).unique().tolist() == [30.0]
    assert blended["blend_of_outputs"](source, halves).unique().tolist() == [28.0]  # 27.5 HU, as it is saved
    torch.testing.assert_close(blended["identity"](source, halves).as_tensor(), source.as_tensor())
    assert calls == ["B30f", "B70f", halves]
    network(volume(1.0), "B30f")
    assert calls == ["B30f", "B70f", halves, "B30f"]  # another volume is translated anew
