"""Scores of blends beside those of pure kernels, which they do not change; cases that lack a kernel.

Blends of kernels: from where, against what, and without translating twice.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.engines import ConversionEvaluator, TranslationEvaluator
from common.engines.conversion_evaluator import (
    CachedTranslator,
    CachedVolumes,
    blend_directions,
    blend_translators,
    blend_volumes,
    half_blends,
)

AFFINE = torch.diag(torch.tensor([0.7, 0.7, 2.0, 1.0], dtype=torch.float64))
SCALES = {"a": 10.0, "b": 20.0, "c": 40.0}  # the kernels differ in their noise
HALVES = {"a": 0.5, "c": 0.5}
PURE = [("a", "b"), ("b", "a"), ("b", "c")]


def case(patient: str, domains: str = "abc") -> dict[str, str]:
    return {"patient": patient, **{domain: f"{patient}/{domain}" for domain in domains}}


def array(path: str) -> np.ndarray:
    patient, domain = path.split("/")
    noise = np.random.default_rng(ord(patient)).normal(0, 1, (1, 24, 24, 2))
    return (SCALES[domain] * noise).round()


class Loader:
    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, item: dict[str, str]) -> dict[str, MetaTensor]:
        self.paths.append(item["image"])
        data = torch.from_numpy(array(item["image"])).float()
        return {"image": MetaTensor(data, affine=AFFINE, meta={"filename_or_obj": item["image"]})}


def network(image: MetaTensor, target) -> MetaTensor:
    """Too bright by 3 HU for a pure kernel, by 1 HU for a blend."""
    scale = SCALES[target] if isinstance(target, str) else sum(w * SCALES[d] for d, w in target.items())
    return ((image / SCALES[image.meta["source_domain"]]) * scale).round() + (3 if isinstance(target, str) else 1)


def evaluate(folder: Path, cases, kind=ConversionEvaluator, load=None, **options):
    translators = {"network": network, "identity": lambda image, target: image}

    def save(item):
        item["pred"].meta["saved_to"] = str(folder / "saved.nii.gz")
        return item

    places = {"output_dir": folder, "bundle_root": folder, "network": torch.nn.Identity()}
    evaluator = kind(
        "cpu",
        cases,
        load or Loader(),
        translators,
        directions=PURE,
        save=save,
        data_range=4095.0,
        matched=False,
        **places,
        **options,
    )
    evaluator.run()
    return evaluator


def test_blends_are_scored_against_the_same_blend_of_the_targets_in_files_of_their_own(tmp_path):
    cases = [case("p"), case("q")]
    evaluate(tmp_path / "plain", cases, TranslationEvaluator)
    evaluate(tmp_path / "blends", cases, blends=[("b", HALVES)])
    for name in ("metrics.csv", "summary.json", "cases.json"):
        assert (tmp_path / "blends" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert not (tmp_path / "plain" / "blends.csv").exists()
    with (tmp_path / "blends" / "blends.csv").open(newline="") as file:
        rows = {(row["patient"], row["method"]): row for row in csv.DictReader(file)}
    assert {row["direction"] for row in rows.values()} == {"b->0.5a+0.5c"}
    assert {method for _, method in rows} == {"network", "blend_of_outputs", "identity"}
    for patient in "pq":
        sources = {domain: array(f"{patient}/{domain}") for domain in SCALES}
        truth = (sources["a"] + sources["c"]) / 2
        pure = {t: (sources["b"].astype(np.float32) / 20 * SCALES[t]).round() + 3 for t in "ac"}
        expected = {
            "network": (sources["b"].astype(np.float32) / 20 * 25).round() + 1,
            "blend_of_outputs": ((pure["a"] + pure["c"]) / 2).round(),
            "identity": sources["b"],
        }
        for method, output in expected.items():
            # the mean over slices of the RMSE of each
            rmse = np.sqrt(((output - truth) ** 2).mean(axis=(0, 1, 2))).mean()
            assert float(rows[patient, method]["rmse"]) == pytest.approx(rmse, rel=1e-5)
    summary = json.loads((tmp_path / "blends" / "blends.json").read_text())
    assert summary["b->0.5a+0.5c"]["network"]["rmse"]["n"] == 2


def test_each_volume_of_a_patient_is_loaded_once(tmp_path):
    load = Loader()
    evaluate(tmp_path, [case("p"), case("q")], load=load, blends=[("b", HALVES)])
    assert load.paths == ["p/a", "p/b", "p/c", "q/a", "q/b", "q/c"]


def test_the_longest_unused_volume_is_dropped_first():
    load = Loader()
    kept = CachedVolumes(load, 2)
    for path in ("p/a", "p/b", "p/a", "p/c", "p/a", "p/b"):
        assert kept({"image": path})["image"].meta["filename_or_obj"] == path
    assert load.paths == ["p/a", "p/b", "p/c", "p/b"]


def test_what_a_case_has_no_volumes_for_is_left_out(tmp_path):
    evaluator = evaluate(tmp_path, [case("p", "ab"), case("q")], blends=[("b", HALVES)])
    pure = {(row["patient"], row["direction"]) for row in evaluator.rows}
    assert pure == {("p", "a->b"), ("p", "b->a"), ("q", "a->b"), ("q", "b->a"), ("q", "b->c")}
    assert {row["patient"] for row in evaluator.blend_rows} == {"q"}


def test_a_case_without_any_direction_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"patient 'p' must name the volumes of at least one direction, .*\['a', 'b'\]; it has"
    ):
        evaluate(tmp_path, [case("p", "c")])


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

    network = CachedTranslator(translate)
    source, halves = volume(0.0), {"B30f": 0.5, "B70f": 0.5}
    for target in halves:
        network(source, target)
    blended = blend_translators({"network": network, "identity": CachedTranslator(lambda image, target: image)})
    assert list(blended) == ["network", "blend_of_outputs", "identity"]
    assert blended["network"](source, halves).unique().tolist() == [30.0]
    assert blended["blend_of_outputs"](source, halves).unique().tolist() == [28.0]  # 27.5 HU, as it is saved
    torch.testing.assert_close(blended["identity"](source, halves).as_tensor(), source.as_tensor())
    assert calls == ["B30f", "B70f", halves]
    network(volume(1.0), "B30f")
    assert calls == ["B30f", "B70f", halves, "B30f"]  # another volume is translated anew
