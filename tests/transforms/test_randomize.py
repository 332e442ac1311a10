"""Source randomisation: the anatomy stays, the look does not, and the background is never touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.transforms import RandInverseLookd, RandLesiond, RandLookd, RandPosed, RandRimd, RandScannedd
from common.transforms.randomize import random_curve
from common.transforms.standardize import EDGE, LOWEST


def anatomy():
    """Encoded ranks of a disc: dark centre, bright ring, middle rim."""
    distance = np.hypot(*np.mgrid[-32:32, -32:32])
    noise = np.random.default_rng(0).uniform(-0.04, 0.04, (64, 64))
    image = np.select([distance < 8, distance < 18, distance < 28], [-0.7 + noise, 0.8 + noise, 0.1 + noise], -1.0)
    return torch.as_tensor(image[None], dtype=torch.float32)


def seeded(transform, seed=0):
    transform.set_random_state(seed=seed)
    return transform


def mean_of(image, low, high):
    distance = np.hypot(*np.mgrid[-32:32, -32:32])
    return float(image[0][(distance > low) & (distance < high)].mean())


@pytest.mark.parametrize("seed", range(6))
def test_a_look_keeps_background_and_order_of_tissues(seed):
    image = anatomy()
    look = seeded(RandLookd("source", bias=0.02, noise=0.02), seed)({"source": image})["source"]
    assert torch.equal(look > EDGE, image > EDGE)
    assert (look[image <= EDGE] == -1).all()
    assert look[look > -1].min() >= LOWEST - 1e-6
    assert look.max() <= 1
    assert mean_of(look, 0, 6) < mean_of(look, 20, 26) < mean_of(look, 10, 16)


def test_looks_differ_and_a_seed_repeats_one():
    first, again, other = (seeded(RandLookd("source"), s)({"source": anatomy()})["source"] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_part_of_a_look_can_be_left_out():
    """With none of them, and ranks as the slice had them, the image comes back."""
    none = RandLookd("source", curve=0, bias=0, blur=0, noise=0, bend=0)
    results = [seeded(none, s)({"source": anatomy()})["source"] for s in range(8)]
    kept = [torch.allclose(result, anatomy(), atol=0.01) for result in results]
    assert any(kept)
    assert not all(kept)  # the other half has evenly spread ranks


def test_prob_zero_changes_nothing():
    item = {"source": anatomy(), "target": -anatomy()}
    assert torch.equal(seeded(RandLookd("source", prob=0.0))(item)["source"], anatomy())
    assert torch.equal(seeded(RandInverseLookd(prob=0.0))(item)["source"], anatomy())


def test_an_inverse_look_reads_the_target_alone_and_inverts_it():
    target = anatomy()
    results = [
        seeded(RandInverseLookd(offset=0.0), s)({"source": torch.full_like(target, value), "target": target})["source"]
        for s in range(3)
        for value in (0.3, -0.5)
    ]
    for first, second in zip(results[::2], results[1::2]):
        assert torch.equal(first, second)
        assert torch.equal(first > EDGE, target > -1)
        assert mean_of(first, 0, 6) > mean_of(first, 20, 26) > mean_of(first, 10, 16)


def test_offsets_break_the_curve():
    """Equal values of the target may look different, by their tissue: no global curve maps the look back."""
    target = anatomy()
    look = seeded(RandInverseLookd(offset=0.5), 3)({"source": target, "target": target})["source"]
    inside = target[0] > -1
    order = np.argsort(target[0][inside].numpy())
    steps = np.diff(look[0][inside].numpy()[order])
    assert (steps > 1e-3).any()
    assert (steps < -1e-3).any()


def test_refused_probability():
    with pytest.raises(ValueError, match=r"`prob` must lie in \[0, 1\], got 1\.5"):
        RandInverseLookd(prob=1.5)


def test_a_pose_moves_source_and_target_alike():
    image = anatomy()
    moved = seeded(RandPosed(["source", "target"], [48, 56]), 2)({"source": image, "target": image.clone()})
    assert torch.equal(moved["source"], moved["target"])
    assert moved["source"].shape == (1, 48, 56)
    assert set(torch.unique(moved["source"][moved["source"] < LOWEST]).tolist()) == {-1.0}


def test_no_pose_is_a_central_crop():
    """Without rotation and scaling only the mirror is left, and the place where the image is cut out."""
    image = anatomy()
    result = seeded(RandPosed("source", [64, 64], rotation=0, scaling=0), 0)({"source": image})["source"]
    mirrored = [image.flip(1), image]
    assert min(float((result - other).abs().mean()) for other in mirrored) < 1e-4


def test_left_and_right_are_exchanged_but_never_front_and_back():
    """H of an axial slice along R and A runs from left to right, W from back to front."""
    left = torch.full((1, 32, 32), 0.0)
    left[:, :10] = 1.0
    back = left.transpose(1, 2).contiguous()
    posed, seen = seeded(RandPosed(["left", "back"], [32, 32], rotation=0.2, scaling=0.1), 0), set()
    for _ in range(40):
        result = posed({"left": left.clone(), "back": back.clone()})
        seen.add(bool(result["left"][0, :8, 8:24].mean() > result["left"][0, -8:, 8:24].mean()))
        assert result["back"][0, 8:24, :8].mean() > 0.5 > result["back"][0, 8:24, -8:].mean()
    assert seen == {True, False}


def test_a_deformation_moves_source_and_target_alike_by_a_few_pixels():
    """Ramps tell where each pixel came from: apart from the mirror, displacements of at most some SDs."""
    rows = (torch.arange(96.0) / 100 - 0.5).expand(1, 96, 96).transpose(1, 2).contiguous()
    images = {"source": rows, "target": rows.clone(), "columns": rows.transpose(1, 2).contiguous()}
    posed = seeded(RandPosed(["source", "target", "columns"], [96, 96], rotation=0, scaling=0, deformation=4.0), 3)
    moved, inside = [], (slice(None), slice(20, -20), slice(20, -20))
    for _ in range(20):
        result = posed(images)
        assert torch.equal(result["source"], result["target"])
        moved.append((result["columns"] - images["columns"])[inside] * 100)
    pixels = torch.cat(moved)
    assert 1.0 < pixels.std() < 4.0
    assert pixels.abs().max() < 20
    assert pixels.diff(dim=1).abs().max() < 2.0  # smooth


def test_a_negative_deformation_is_refused():
    with pytest.raises(ValueError, match="`deformation` must be >= 0 pixels, got -1"):
        RandPosed("source", [8, 8], deformation=-1)


def test_smaller_images_are_padded_with_background():
    result = seeded(RandPosed("source", [96, 96], rotation=0, scaling=0), 0)({"source": anatomy()})["source"]
    assert (result[:, :10] == -1).all()
    assert int((result > -1).sum()) == int((anatomy() > -1).sum())


def test_random_curves_rise_from_zero_to_one():
    for seed in range(20):
        x, y = random_curve(np.random.RandomState(seed))
        assert (x[0], x[-1], y[0]) == (0, 1, 0)
        assert y[-1] == pytest.approx(1)
        assert (np.diff(y) >= 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_rim_fades_in_source_and_target_alike(seed):
    """What is left of a pixel is the same share of both, seen from the darkest value of each."""
    source = anatomy()
    target = torch.where(source > -1, torch.tensor(0.6), torch.tensor(-1.0))
    item = seeded(RandRimd(prob=1.0), seed)({"source": source, "target": target})
    inside = item["source"] > EDGE
    assert torch.equal(inside, item["target"] > -1)
    assert inside.sum() < (source > EDGE).sum() + 1
    shares = (item["target"][inside] + 1) / 1.6
    torch.testing.assert_close((item["source"][inside] - LOWEST) / (source[inside] - LOWEST), shares, atol=1e-4, rtol=0)
    assert shares.min() < 0.99
    assert shares.max() <= 1 + 1e-6
    deep = torch.as_tensor(np.hypot(*np.mgrid[-32:32, -32:32]) < 18)[None]
    torch.testing.assert_close(item["source"][deep], source[deep])


def test_no_rim_without_its_probability():
    item = seeded(RandRimd(prob=0.0))({"source": anatomy(), "target": anatomy()})
    assert torch.equal(item["source"], anatomy())


def test_the_border_of_the_image_is_no_rim():
    whole = torch.zeros(1, 64, 64)
    item = seeded(RandRimd(prob=1.0), 1)({"source": whole, "target": whole.clone()})
    torch.testing.assert_close(item["target"], whole)


def pair_of_stacks():
    """Three slices of soft tissue in air, and the same with 0.4 more in the middle."""
    source = torch.full((3, 32, 32), -1.0)
    source[:, 6:26, 6:26] = 0.1
    target = source.clone()
    target[:, 12:20, 12:20] += 0.4
    return {"source": source, "target": target}


def test_another_scanner_shows_source_and_target_alike():
    item = pair_of_stacks()
    for seed in range(4):
        made = seeded(RandScannedd(blur=0.0), seed)(item)
        assert torch.allclose(made["target"] - made["source"], item["target"] - item["source"], atol=1e-5)
        assert (made["source"][item["source"] == -1] == -1).all()
        assert made["source"][0, 8, 8] != made["source"][1, 8, 8]  # each slice has its own noise
    none = seeded(RandScannedd(blur=0, noise=0, offset=0))(item)
    assert torch.allclose(none["source"], item["source"])


def test_what_the_target_adds_is_blurred_with_the_scan():
    item = pair_of_stacks()
    made = [seeded(RandScannedd(blur=3.0, noise=0, offset=0), seed)(item) for seed in range(4)]
    steps = [float((each["target"] - each["source"]).diff(dim=1).abs().max()) for each in made]
    assert min(steps) < 0.3 < float((item["target"] - item["source"]).diff(dim=1).abs().max())


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="negative"):
        RandScannedd(noise=-0.1)


def test_stacks_are_posed_alike_in_all_slices():
    image = anatomy().expand(3, -1, -1)
    posed = seeded(RandPosed(["source"], [40, 48]))({"source": image})["source"]
    one = seeded(RandPosed(["source"], [40, 48]))({"source": anatomy()})["source"]
    assert posed.shape == (3, 40, 48)
    assert all(torch.equal(each, one[0]) for each in posed)


def stack():
    """Three neighbouring slices, each of its own size."""
    distance = np.hypot(*np.mgrid[-32:32, -32:32])
    slices = [np.where(distance < radius, anatomy()[0].numpy(), -1.0) for radius in (20, 26, 23)]
    return torch.as_tensor(np.stack(slices), dtype=torch.float32)


TRANSFORMS = [
    lambda: RandLookd("source", noise=0.0, blur=0.6),
    lambda: RandInverseLookd(),
    lambda: RandRimd(prob=1.0),
    lambda: RandPosed(["source", "target"], [48, 56]),
    lambda: RandPosed(["source", "target"], [48, 56], deformation=3.0),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equal_slices_of_a_stack_stay_equal(transform):
    """One curve, field, rim and pose for all of them, and no blur across."""
    images = {"source": anatomy().repeat(3, 1, 1), "target": anatomy().repeat(3, 1, 1)}
    for image in seeded(transform(), 4)(images).values():
        assert image.shape[0] == 3
        for slice_ in image[1:]:
            torch.testing.assert_close(slice_, image[0])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_each_slice_of_a_stack_keeps_its_own_background(transform):
    item = seeded(transform(), 1)({"source": stack(), "target": stack()})
    areas = (item["source"] > EDGE).flatten(1).sum(1)
    assert areas[0] < areas[2] < areas[1]
    assert set(torch.unique(item["source"][item["source"] <= EDGE]).tolist()) == {-1.0}


def brain():
    """White matter in a disc, fluid in its middle and grey matter around it, as T1 and T2 show them; three slices."""
    distance = np.hypot(*np.mgrid[-32:32, -32:32])
    parts = [distance < 5, distance < 22, distance < 27]
    pair = {"source": [-0.85, 0.7, 0.1], "target": [0.8, -0.65, -0.5]}
    return {
        name: torch.as_tensor(np.tile(np.select(parts, values, -1.0), (3, 1, 1)), dtype=torch.float32)
        for name, values in pair.items()
    }


@pytest.mark.parametrize("seed", range(6))
def test_lesions_are_bright_in_the_target_and_not_brighter_in_the_source(seed):
    before, after = brain(), seeded(RandLesiond(prob=1.0), seed)(brain())
    grown = after["target"] - before["target"]
    faded = before["source"] - after["source"]
    assert grown.max() > 0.3
    assert grown.min() >= 0
    assert faded.min() >= 0
    assert after["source"][after["source"] > -1].min() >= LOWEST
    assert not (faded[grown == 0] != 0).any()  # one shape in both
    assert after["target"].max() <= 0.8  # fluid is still the brightest
    for value in (-1.0, 0.8):  # background and fluid stay
        where = before["target"] == value
        for name in before:
            assert torch.equal(after[name][where], before[name][where])
    lesion = grown[1] > 0.2
    assert 3 < int(lesion.sum()) < 0.6 * int((before["target"][1] > -1).sum())


def test_a_lesion_may_be_invisible_in_the_source():
    after = seeded(RandLesiond(prob=1.0, dark=0.0))(brain())
    assert torch.equal(after["source"], brain()["source"])
    assert not torch.equal(after["target"], brain()["target"])


def test_lesions_have_the_size_and_the_number_that_were_asked_for():
    """One of radius 6 covers at most its uneven circle and soft edge, and takes away at most half of a value."""
    areas = []
    for seed in range(12):
        after = seeded(RandLesiond(prob=1.0, number=1, radius=(6.0, 6.0)), seed)(brain())
        changed = (after["target"] - brain()["target"]) > 0
        rows, columns = changed.any(dim=0).nonzero(as_tuple=True)
        assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) <= 2 * (6 * 1.3 * 1.25)
        areas.append(int(changed.sum()))
        assert (brain()["source"] - after["source"]).max() <= 0.5 * (0.7 - LOWEST) + 1e-6
    small = [
        int(
            (
                seeded(RandLesiond(prob=1.0, number=1, radius=(1.5, 1.5)), s)(brain())["target"] != brain()["target"]
            ).sum()
        )
        for s in range(12)
    ]
    assert np.mean(areas) > 4 * np.mean(small)
    assert min(small) > 0


def test_lesions_repeat_by_seed_and_leave_their_input_alone():
    item = brain()
    first, again, other = (seeded(RandLesiond(prob=1.0), seed)(item)["target"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(item["target"], brain()["target"])


def test_no_lesions_without_their_probability_nor_any_random_number():
    transform = seeded(RandLesiond(prob=0.0), 5)
    before = transform.R.get_state()[1:3]
    item = transform(brain())
    after = transform.R.get_state()[1:3]
    assert np.array_equal(before[0], after[0])
    assert before[1] == after[1]
    assert torch.equal(item["target"], brain()["target"])


def test_no_lesions_where_there_is_no_tissue():
    empty = {name: torch.full((3, 32, 32), -1.0) for name in ("source", "target")}
    assert (seeded(RandLesiond(prob=1.0))(empty)["target"] == -1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prob": 1.5}, r"`prob` must lie in \[0, 1\], got 1\.5"),
        ({"number": 0}, r"`number` must be >= 1, got 0: for none, `prob=0`"),
        ({"radius": (4.0, 2.0)}, r"`radius` must be two rising numbers > 0 \(pixels\), got \[4\.0, 2\.0\]"),
        ({"dark": 1.2}, r"`dark` must lie in \[0, 1\], got 1\.2"),
    ],
)
def test_wrong_lesions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandLesiond(**arguments)
