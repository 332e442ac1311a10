"""Fine-tuning: the commands of each bundle, what is refused before anything runs, and one real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from common.bundles import find_bundles
from common.files import checksum
from common.finetune import finetuning_commands, run_finetuning
from common.networks import load_pretrained
from tests.helpers.commands import python_m
from tests.helpers.shared import require_shared

BUNDLES = {root.name: root for root in find_bundles()}


def option(command: list[str], name: str) -> str:
    return command[command.index(f"--{name}") + 1]


@pytest.mark.parametrize("name", BUNDLES)
def test_each_bundle_trains_from_its_weights_and_is_judged_beside_them(name):
    *stages, training, evaluating, report = finetuning_commands(BUNDLES[name], "data", "out")
    assert [command[2] for command in (training, evaluating)] == ["training", "evaluating"]
    assert Path(option(training, "pretrained_dir")) == Path(option(evaluating, "before_dir"))
    assert Path(option(training, "pretrained_dir")).resolve() == BUNDLES[name] / "models"
    for command in (*stages, training, evaluating):  # what is made lies in the output, and the old weights stay
        assert Path(option(command, "models_dir")) == Path("out/models")
        assert option(command, "dataset_dir") == "data"
    assert option(training, "config_file").endswith("configs/finetune.yaml']")
    assert report == ["common", "report", "out"]
    assert len(stages) == (2 if name == "nect2cect" else 0)


def test_other_weights_overlays_and_ids_reach_the_training_alone():
    commands = finetuning_commands(
        BUNDLES["nect2cect"], "data", "out", "site/models", ("baselines/supervised",), {"max_epochs": 3}
    )
    *stages, training, evaluating, _ = commands
    assert option(training, "max_epochs") == "3"
    assert "--max_epochs" not in evaluating
    assert option(evaluating, "before_dir") == option(training, "pretrained_dir") == "site/models"
    files = yaml.safe_load(option(training, "config_file"))
    assert [Path(file).stem for file in files] == ["train", "supervised", "finetune"]
    assert all("supervised" not in option(stage, "config_file") for stage in stages)


def test_scans_in_pairs_are_used_as_pairs():
    _, training = [
        finetuning_commands(BUNDLES["nec_t1t2"], "data", "out", in_pairs=in_pairs)[0] for in_pairs in (False, True)
    ]
    files = [Path(file).stem for file in yaml.safe_load(option(training, "config_file"))]
    assert files == ["train", "randomised", "pairs", "finetune"]


@pytest.mark.parametrize("name", BUNDLES)
def test_the_weights_to_begin_with_are_never_written_over(name):
    text = (BUNDLES[name] / "configs" / "finetune.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert config["models_dir"] != config["pretrained_dir"]
    assert config["network_def"] == "$common.networks.load_pretrained(@pretrained_dir)"


def test_without_held_out_patients_nothing_is_trained(tmp_path):
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [{"image": "a.nii", "domain": "T1"}]}))
    with pytest.raises(ValueError, match=r"no patient in `test`.*python -m common datalist .* --split"):
        run_finetuning("nec_t1t2", str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_bundle_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"`bundle` must be one of \['ggcl', .*'sr_cyclegan'\]"):
        run_finetuning("heart", str(tmp_path), str(tmp_path / "out"))


@pytest.mark.slow
def test_a_site_goes_on_from_the_shipped_weights_with_its_own_scans(tmp_path):
    """Real scans of two patients, and of a third one for the judgement, on which alone nothing is decided."""
    scans = require_shared("data", "brain_mri")
    names = {"p1": "long01_study1", "p2": "long03_study2", "p3": "long04_study1"}
    files = {p: {d: str(scans / f"openms_{name}_{d}.nii.gz") for d in ("T1", "T2")} for p, name in names.items()}
    entries = [{"patient": patient, **domains} for patient, domains in files.items()]
    images = [{"image": file, "domain": d, "patient": p} for p in ("p1", "p2") for d, file in files[p].items()]
    datalist = {"training": images, "training_paired": entries[:2], "test": entries[2:]}
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    shipped = checksum(BUNDLES["nec_t1t2"] / "models" / "model.pt")
    done = python_m(
        "common",
        ["finetune", "nec_t1t2", "--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
        + ["--max_epochs", "1", "--samples_per_epoch", "16"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "out" / "finetuning.json").read_text())
    assert result["verdict"] in ("open", "discard")
    assert result["text"] in done.stdout
    assert list(result["patients"]) == ["p3"]
    assert set(load_pretrained(tmp_path / "out" / "models").state_dict()) == set(
        load_pretrained(BUNDLES["nec_t1t2"] / "models").state_dict()
    )
    assert checksum(BUNDLES["nec_t1t2"] / "models" / "model.pt") == shipped
    assert "Fine-tuning" in (tmp_path / "out" / "report.html").read_text()
