"""Names of kernels: each known name has one manufacturer, and a place among the others."""

from __future__ import annotations

import pytest

from common.dicom.kernels import CANON, GE, PHILIPS, kernel_family, matching_kernel, nearest_kernel


def test_no_name_belongs_to_two_manufacturers():
    assert not GE.keys() & PHILIPS.keys()
    for manufacturer, names in (("GE", GE), ("Philips", PHILIPS)):
        assert {kernel_family(name).manufacturer for name in names} == {manufacturer}
    assert all(first <= last for first, last, _ in CANON)


@pytest.mark.parametrize(
    ("softer", "sharper"),
    [("B20f", "B80f"), ("STANDARD", "BONEPLUS"), ("SOFT", "LUNG"), ("A", "YA"), ("FC08", "FC52"), ("Br36", "Bl57")],
)
def test_the_sharper_of_two_kernels_is_known(softer, sharper):
    assert kernel_family(softer).sharpness < kernel_family(sharper).sharpness
    assert nearest_kernel(softer, ["B30f", "B70f"]) == "B30f"
    assert nearest_kernel(sharper, ["B30f", "B70f"]) == "B70f"


@pytest.mark.parametrize("name", ["", "SHARPEST", "B3", "FC99", "30", "Brrr40"])
def test_an_unknown_name_has_no_family(name):
    assert kernel_family(name) is None
    assert nearest_kernel(name, ["B30f"]) is None


def test_domains_that_are_no_kernels_have_no_nearest_one():
    assert nearest_kernel("LUNG", ["first", "second"]) is None
    assert matching_kernel("FIRST", ["first", "second"]) == "first"
