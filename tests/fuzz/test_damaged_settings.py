"""Datalists, networks, weights and command-line overrides that are damaged, mistyped or of another kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from common import preflight
from common.data import describe, find_conversions, find_images, label_names, load_datalist, load_domain
from common.networks import load_definition, load_weights
from tests.helpers.inference import BUNDLES, OVERRIDES, parsed

from .campaign import Input, campaign, share
from .mutations import damaged, replaced

SETTINGS: dict[str, list[Any]] = {
    "batch_size": [1, 2, 0, -3, "four", 2.5, None, [4]],
    "guards": ["refuse", "warn", "off", "of", 3, None, ["warn"]],
    "output_format": ["nifti", "dicom", "both", "nii", 1, None],
    "target": ["B30f", "b70f", 7, None, {"B30f": 0.5, "B70f": 0.5}, {"B30f": 2}, {"B30f": "x"}, ["B30f"], {}],
    "source": ["B50f", "B99", 1, {"B30f": 1}],
    "region": ["all", "lung", "chest", [[0, 4], [0, 4], [0, 2]], [[0, 99], [0, 4], [0, 2]], [[4, 0]], 5, None],
    "slab": [None, [0, 2], [2, 0], [0, 99], "0,2", 3, [0.5, 1]],
    "compress": [True, False, "yes", 3],
    "tile_size": [0, 4, -1, "big", 1.5, None],
    "dataset_dir": ["absent", 3, None, ""],
    "models_dir": ["absent", 3, None],
    "device": ["cpu", "gpu", 7, None],
}

ARGUMENTS = {"source": "contrast"}  # under which name a component refuses an id's value


@pytest.fixture
def study(tmp_path) -> tuple[Path, dict[str, Any]]:
    """A folder of empty volumes and its datalist."""
    folder = tmp_path / "study"
    folder.mkdir()
    names = [f"{patient}_{domain}.nii.gz" for patient in "abcd" for domain in ("T1", "T2")]
    for name in names:
        (folder / name).touch()
    pair = [{"patient": p, "T1": f"{p}_T1.nii.gz", "T2": f"{p}_T2.nii.gz"} for p in "abcd"]
    single = [{"patient": p, "domain": d, "image": f"{p}_{d}.nii.gz"} for p in "ab" for d in ("T1", "T2")]
    document = {"name": "study", "parameters": {"seed": 0}, "label_names": {"1": "oedema"}, "training": single}
    return folder, {**document, "training_paired": pair[:2], "validation": pair[2:3], "test": pair[3:]}


def read_all(path: Path) -> None:
    for key in ("training", "training_paired", "validation", "test"):
        load_datalist(path, key)
        load_domain(path, key, "T1")
    describe(path)
    label_names(path)
    find_images(path, domain="T1")
    find_conversions(path, ["T1", "T2"], "T2")


@share(60)
def test_damaged_datalists_are_read_or_refused_by_name(tries, study):
    folder, document = study

    def make(place: Path, random: np.random.Generator) -> Input:
        path = place / "datalist.json"
        shutil.copytree(folder, place, dirs_exist_ok=True)
        text = json.dumps(replaced(document, random) if random.random() < 0.7 else document).encode()
        path.write_bytes(damaged(text, random, head=60) if random.random() < 0.4 else text)
        return Input(lambda: read_all(path), [str(place)], place / "out")

    campaign("datalist.json", tries, make)


@share(25)
@pytest.mark.parametrize("bundle", ["nec_t1t2", "ggcl"])
def test_damaged_network_definitions_are_built_or_refused_by_name(bundle, tries):
    document = json.loads((BUNDLES / bundle / "models" / "network.json").read_text())
    weights = BUNDLES / bundle / "models" / "model.pt"

    def make(place: Path, random: np.random.Generator) -> Input:
        path = place / "network.json"
        text = json.dumps(replaced(document, random) if random.random() < 0.7 else document).encode()
        path.write_bytes(damaged(text, random, head=60) if random.random() < 0.4 else text)
        shutil.copy(weights, place)
        return Input(
            lambda: load_weights(load_definition(place, {}), weights), [str(path), str(weights)], place / "out"
        )

    campaign("network.json", tries, make)


@share(20)
def test_damaged_weights_are_loaded_or_refused_by_name(tries):
    models = BUNDLES / "ggcl" / "models"
    network, sound = load_definition(models, {}), (models / "model.pt").read_bytes()

    def make(place: Path, random: np.random.Generator) -> Input:
        path = place / "model.pt"
        path.write_bytes(damaged(sound, random, head=4000))
        return Input(lambda: load_weights(network, path), [str(path)], place / "out")

    campaign("model.pt", tries, make)


@share(20)
def test_any_override_is_used_or_refused_with_its_name(tries, tmp_path):
    values = np.random.default_rng(0).integers(-1024, 3071, (9, 8, 4)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([0.7, 0.7, 2.0, 1.0])), tmp_path / "scan.nii")

    def make(place: Path, random: np.random.Generator) -> Input:
        bundle = str(random.choice(sorted(OVERRIDES)))
        id_ = str(random.choice(sorted(SETTINGS)))
        options = SETTINGS[id_]
        value = options[int(random.integers(len(options)))]
        written = _mistyped(id_, random) if random.random() < 0.3 else id_

        def attempt() -> None:
            given: dict[str, Any] = {written: value} if written == id_ else {written: 1}
            parser = parsed(bundle, tmp_path / "scan.nii", place / "out", **given)
            preflight.check(exists=parser.get_parsed_content("dataset_dir"), config=parser)
            parser.get_parsed_content("evaluator").run()

        return Input(attempt, [f"`{ARGUMENTS.get(id_, id_)}`", f"`{id_}`", repr(written), "scan.nii"], place / "out")

    campaign("override", tries, make)


def _mistyped(id_: str, random: np.random.Generator) -> str:
    at = int(random.integers(len(id_)))
    letter = str(random.choice(list("abcdefghijklmnopqrstuvwxyz_")))
    return str(random.choice([id_[:at] + id_[at + 1 :], id_[:at] + letter + id_[at:], letter + id_]))
