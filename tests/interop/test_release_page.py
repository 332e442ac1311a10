"""The commands of docs/release.md, in the project's own environment."""

from __future__ import annotations

import json

import pytest

from .pages import run_page

pytestmark = pytest.mark.interop


def test_the_commands_of_the_page_run_in_order(address, phantoms, tmp_path):
    places = {name: tmp_path / name.lower() for name in ("DIST", "BUNDLES", "INSTALLED", "OUT")}
    image = next((phantoms["brain"] / "images").glob("*T1.nii.gz"))
    assert len(run_page("release.md", {**places, "ADDRESS": address, "FILE_OR_FOLDER": image})) == 6
    assert len(list(places["OUT"].rglob("*_synthetic_T2.nii.gz"))) == 1
    assert json.loads((places["DIST"] / "model_info.json").read_text())["ggcl_v0.1.0"]["source"].startswith(address)
    assert (places["INSTALLED"] / "nec_t1t2" / "models" / "model.pt").is_file()
