"""A phantom and a bundle trained on it, shared by the tests of a module."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.phantoms import generate_phantom
from tests.helpers.bundles import TINY, bundle, done


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """6 patients of 4 slices of 64 x 64 pixels (4 mm)."""
    folder = tmp_path_factory.mktemp("phantom")
    generate_phantom("brain", folder, patients=6, slices=4, size=64)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "tiny.yaml"
    path.write_text(TINY + "spacing_mm: [4.0, 4.0, -1]\n")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, phantom, tiny) -> Path:
    """A folder with `training/` and `models/`, one epoch old."""
    folder = tmp_path_factory.mktemp("trained")
    places = ["--dataset_dir", phantom, "--output_dir", folder / "training", "--models_dir", folder / "models"]
    done(bundle("training", ["train", tiny], *places, cwd=folder))
    return folder
