"""The sidecar says when the network's files are not as training wrote them, and which kernel was converted."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from tests.helpers.bundles import ROOT
from tests.helpers.translations import save, sidecars, source, translate
from tests.helpers.verdicts import refusal

MODELS = ROOT / "bundles" / "nect2cect" / "models"


def edit_margin(models):
    document = json.loads((models / "network.json").read_text())
    document["arguments"]["background"] = -0.5
    (models / "network.json").write_text(json.dumps(document))


def scale_weights(models):
    state = torch.load(models / "model.pt")
    torch.save({name: 1.5 * value for name, value in state.items()}, models / "model.pt")


@pytest.mark.parametrize(
    ("edit", "file"),
    [(None, None), (edit_margin, "network.json"), (scale_weights, "model.pt")],
    ids=["nothing", "margin", "weights"],
)
def test_files_that_were_changed_are_told_in_log_and_sidecar(edit, file, tmp_path, caplog):
    models = shutil.copytree(MODELS, tmp_path / "models")
    if edit is not None:
        edit(models)
    scan = save(tmp_path / "scan.nii.gz", *source("nect2cect"))
    translate("nect2cect", scan, tmp_path / "out", models_dir=str(models), guards="off")
    (facts,) = sidecars(tmp_path / "out").values()
    if edit is None:
        assert "changed_by_hand" not in facts
        assert "Results may be wrong" not in caplog.text
    else:
        (sentence,) = facts["changed_by_hand"]
        assert sentence.startswith(file)
        assert sentence in caplog.text
        assert facts["verdict"] == "warned"


def test_weights_as_integers_are_refused(tmp_path):
    models = shutil.copytree(MODELS, tmp_path / "models")
    state = torch.load(models / "model.pt")
    torch.save({name: value.round().to(torch.int8) for name, value in state.items()}, models / "model.pt")
    scan = save(tmp_path / "scan.nii.gz", *source("nect2cect"))
    with pytest.raises(RuntimeError) as error:
        translate("nect2cect", scan, tmp_path / "out", models_dir=str(models), guards="off")
    assert "is of torch.int8 in the file and of torch.float32 here" in refusal(error.value)


def test_the_kernel_and_how_it_is_known_are_told(tmp_path):
    scan = save(tmp_path / "scan.nii.gz", *source("ggcl"))
    translate("ggcl", scan, tmp_path / "out", source="B50f", target="B70f")
    (facts,) = sidecars(tmp_path / "out").values()
    assert facts["source_kernel"] == {"kernel": "B50f", "known_by": "as given"}
