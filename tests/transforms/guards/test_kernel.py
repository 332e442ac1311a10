"""Where the source kernel is found, and what is warned of."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.data import MetaTensor

from common.transforms import FindKerneld, header_kernel
from common.transforms.guards.kernel import kernel_found

DOMAINS = ["B30f", "B50f", "B70f"]


def volume(kernel: object = None, pixel: float = 0.7) -> MetaTensor:
    meta = {"filename_or_obj": "scan", "00181210": {"vr": "SH", "Value": [kernel]} if kernel else None}
    return MetaTensor(torch.zeros(1, 4, 4, 2), affine=torch.diag(torch.tensor([pixel, pixel, 1.0, 1.0])), meta=meta)


def found(image, target="B70f", domain=None, **options):
    item = {"image": image, **({} if domain is None else {"domain": domain})}
    return FindKerneld("image", DOMAINS, target, **options)(item)["image"].meta.get("source_domain")


def test_what_the_user_says_comes_before_the_header_before_the_estimate(caplog):
    caplog.set_level(logging.INFO)
    assert found(volume("B50f"), source="B30f") == "B30f"
    assert found(volume("B50f"), estimate=lambda *_: ("B30f", 0.9)) == "B50f"
    assert found(volume(), estimate=lambda *_: ("B30f", 0.9)) == "B30f"
    assert found(volume()) is None
    assert "source kernel B50f (from the DICOM header)" in caplog.text
    assert "source kernel B30f (estimated from the noise, confidence 90%)" in caplog.text


def test_what_the_datalist_says_comes_after_the_user_and_before_the_header(caplog):
    caplog.set_level(logging.INFO)
    assert found(volume("B50f"), domain="B30f") == "B30f"
    assert "source kernel B30f (from the datalist)" in caplog.text
    assert found(volume(), domain="B30f", source="B50f") == "B50f"
    assert "the image is converted from B50f, as given, but the datalist says 'B30f'" in caplog.text.replace(
        "'scan'", "the image"
    )


def test_a_kernel_of_the_datalist_that_is_unknown_or_the_target_is_warned_of(caplog):
    assert found(volume(), domain="B31f", estimate=lambda *_: ("B50f", 0.6)) == "B50f"
    assert "its kernel 'B31f' is not one of ['B30f', 'B50f', 'B70f']" in caplog.text
    assert found(volume(), domain="B70f") == "B70f"
    assert "has the target kernel B70f already (from the datalist): there is nothing to convert." in caplog.text


def test_the_estimate_sees_the_volume_and_its_spacing():
    seen = []
    found(volume(pixel=0.6), estimate=lambda array, spacing: (seen.append((array.shape, spacing)), ("B30f", 1.0))[1])
    ((shape, spacing),) = seen
    assert shape == (4, 4, 2)
    assert spacing == pytest.approx([0.6, 0.6, 1.0])


@pytest.mark.parametrize(("confidence", "warned"), [(0.02, True), (0.6, False)])
def test_a_guess_is_warned_of(confidence, warned, caplog):
    found(volume(), estimate=lambda *_: ("B50f", confidence))
    assert ("B50f is nearest by the noise" in caplog.text) == warned


def test_an_unknown_kernel_in_the_header_is_warned_of(caplog):
    assert found(volume("UB"), estimate=lambda *_: ("B50f", 0.6)) == "B50f"
    assert "its kernel 'UB' is not one of ['B30f', 'B50f', 'B70f']" in caplog.text


def test_converting_a_kernel_into_itself_is_warned_of(caplog):
    found(volume("B70f"))
    assert "scan has the target kernel B70f already (from the DICOM header)" in caplog.text.replace("'", "")


@pytest.mark.parametrize(("pixel", "warned"), [(0.54, True), (0.55, False), (0.85, False), (1.0, True)])
def test_pixels_outside_of_the_training_are_warned_of(pixel, warned, caplog):
    found(volume(pixel=pixel), spacing_mm=[0.55, 0.85])
    assert ("the network was trained with 0.550 to 0.850 mm" in caplog.text) == warned


@pytest.mark.parametrize("source", ["B31f", 1, {"B30f": 1}])
def test_a_source_that_is_no_domain_is_an_error(source):
    with pytest.raises(ValueError, match=r"`source` must be one of the trained kernels \['B30f', 'B50f', 'B70f'\]"):
        found(volume(), source=source)


@pytest.mark.parametrize("value", [{"vr": "SH", "Value": ["B30f", "4"]}, ["B30f"], " B30f "])
def test_the_header_is_read_in_each_form_that_a_reader_gives(value):
    image = volume()
    image.meta["00181210"] = value
    assert header_kernel(image) == "B30f"
    assert header_kernel(volume()) is None


@pytest.mark.parametrize("written", ["b30f", "B30F", " B30f", "B30f\\3"])
def test_a_trained_kernel_is_known_in_any_case_and_with_an_iterative_strength(written):
    assert found(volume(written), guards="refuse", estimate=lambda *_: ("B70f", 0.0)) == "B30f"


@pytest.mark.parametrize(
    ("written", "manufacturer", "kind", "nearest"),
    [
        ("BONEPLUS", "GE", "sharp", "B70f"),
        ("STANDARD", "GE", "standard", "B30f"),
        ("YA", "Philips", "sharp", "B50f"),
        ("FC52", "Canon", "sharp", "B70f"),
        ("Br40d", "Siemens", "standard", "B30f"),
        ("Qr59f", "Siemens", "medium", "B50f"),
        ("I30f\\2", "Siemens", "soft", "B30f"),
    ],
)
def test_of_another_kernel_the_nearest_one_is_named_and_a_doubtful_estimate_refused(
    written, manufacturer, kind, nearest, caplog
):
    with pytest.raises(ValueError, match=rf"confidence of 12% .*Give `--source {nearest}`.*--guards warn"):
        found(volume(written), guards="refuse", estimate=lambda *_: ("B50f", 0.12))
    assert f"is a {kind} kernel of {manufacturer}: of the trained ones {nearest} is the nearest." in caplog.text


def test_what_is_noted_of_the_kernel_says_how_it_is_known_and_how_surely():
    def noted(image, **options):
        item = FindKerneld("image", DOMAINS, "B70f", **options)({"image": image})
        return kernel_found(item["image"])

    assert noted(volume("b30f")) == {"kernel": "B30f", "known_by": "from the DICOM header", "written": "b30f"}
    assert noted(volume(), source="B50f") == {"kernel": "B50f", "known_by": "as given"}
    guess = noted(volume("UB"), estimate=lambda *_: ("B50f", 0.61))
    assert guess == {"kernel": "B50f", "known_by": "estimated from the noise", "confidence": 0.61, "written": "UB"}
    assert noted(volume("UB"), guards="warn", estimate=lambda *_: ("B50f", 0.0))["confidence"] == 0.0
    assert noted(volume()) == {"kernel": None, "known_by": "unknown"}
    assert kernel_found(volume()) is None
