"""The bundles in MONAI's workflow API, as programs use it: properties, `initialize`, `run`, `finalize`, tracking."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow, scripts
from monai.bundle.properties import TrainProperties
from monai.handlers import from_engine

from common import preflight
from common.data import read_datalist
from common.phantoms import generate_phantom
from tests.helpers.bundles import ROOT, done, run
from tests.helpers.federated_cases import BUNDLES, CASES
from tests.helpers.translations import OPTIONS, save, source

# Optional properties that no translation has: nothing is decoded in a training, and its losses are no metrics.
WITHOUT = {"train_postprocessing", "val_postprocessing", "train_key_metric"}
PREPROCESSED_IN_THE_VOLUME = {"sr_cyclegan": {"train_preprocessing"}}
LARGER = {"sr_cyclegan": {"patch_size": 16}}  # the score needs 28 pixels of the output
STAGE = {"nect2cect": ["configs/train_contrast_removal.yaml"]}  # one that needs no other


@pytest.fixture(scope="module", params=list(CASES))
def bundle(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def data(bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(bundle)
    generate_phantom(CASES[bundle].kind, folder, **{**CASES[bundle].phantom, "patients": 9}, workers=1)
    return folder


def training(bundle: str, data: Path, out: Path, **more: Any) -> ConfigWorkflow:
    case, root = CASES[bundle], BUNDLES / bundle
    workflow = ConfigWorkflow(
        config_file=[
            str(root / "configs/train.yaml"),
            *(str(root / f) for f in [*case.overlays, *STAGE.get(bundle, [])]),
        ],
        workflow_type="train",
        logging_file=False,
        bundle_root=str(root),
        dataset_dir=str(data),
        output_dir=str(out),
        **{
            "models_dir": str(out / "models"),
            "max_epochs": 1,
            "train#trainer#progress": False,
            **case.options,
            **LARGER.get(bundle, {}),
            **more,
        },
    )
    workflow.initialize()
    return workflow


def test_every_property_of_a_training_is_reached(bundle, data, tmp_path):
    workflow = training(bundle, data, tmp_path)
    assert workflow.check_properties() == []
    absent = {name for name in TrainProperties if getattr(workflow, name) is None}
    assert absent == WITHOUT | PREPROCESSED_IN_THE_VOLUME.get(bundle, set())
    datalist, folder = read_datalist(data)
    listed = {str(folder / value) for entry in datalist["validation"] for key, value in entry.items() if "." in value}
    given = {str(value) for entry in workflow.val_dataset_data for value in entry.values()}
    assert given & listed
    assert workflow.trainer.data_loader.dataset is workflow.train_dataset
    assert list(workflow.train_dataset.data) == workflow.train_dataset_data
    assert workflow.train_handlers == workflow.val_handlers == []


def test_the_entries_that_a_program_sets_are_those_that_are_trained_on(bundle, data, tmp_path):
    workflow = training(bundle, data, tmp_path)
    entries, length = workflow.train_dataset_data, len(workflow.train_dataset)
    fewer = list({entry.get("domain"): entry for entry in entries}.values())
    assert len(fewer) < len(entries)
    workflow.train_dataset_data = fewer
    workflow.initialize()
    assert list(workflow.train_dataset.data) == fewer
    assert len(workflow.train_dataset) < length
    overridden = training(bundle, data, tmp_path, **{"train#dataset#data": fewer})
    assert len(overridden.train_dataset) == len(workflow.train_dataset)


def test_the_evaluator_validates_without_pairs_and_has_its_key_metric(bundle, data, tmp_path):
    workflow = training(bundle, data, tmp_path, models_dir=str(BUNDLES / bundle / "models"))
    evaluator = workflow.evaluator
    evaluator.run()
    assert evaluator.state.key_metric_name == "unpaired_score"
    assert list(workflow.val_key_metric) == ["unpaired_score"]
    score = evaluator.state.metrics["unpaired_score"]
    assert math.isfinite(score)
    assert evaluator.state.best_metric == score
    for best, expected in ((score - 1, score - 1), (score + 1, score)):  # lower is better
        evaluator.state.best_metric = best
        evaluator.run()
        assert evaluator.state.best_metric == expected


def test_a_validator_selects_the_weights_where_it_is_asked_for(bundle, data, tmp_path):
    options = {"train#trainer#validator": "@validate#evaluator", "val_interval": 1, "make_data": None}
    workflow = training(bundle, data, tmp_path, **options)
    workflow.run()
    (weights,) = (tmp_path / "models").rglob("model.pt")
    (rows,) = tmp_path.rglob("validation.csv")
    assert weights.with_name("network.json").is_file()
    assert rows.read_text().startswith("epoch,unpaired_score,")
    assert workflow.trainer.best_epoch == 1


def test_the_loss_of_each_iteration_is_what_monais_handlers_read(bundle, data, tmp_path):
    trainer = training(bundle, data, tmp_path, **{"train#trainer#validator": None}).trainer
    found: list[tuple[Any, Any]] = []
    read = from_engine(["loss"], first=True)  # as MLFlowHandler, StatsHandler and TensorBoardStatsHandler are set up
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: found.append((read(engine.state.output), dict(engine.state.output.items()))),
    )
    trainer.run()
    assert len(found) == len(trainer.data_loader)
    for loss, named in found:
        assert (loss is None) == ("generator" not in named)
        assert loss is None or torch.equal(loss, named["generator"])
    assert any(loss is not None for loss, _ in found)
    (losses,) = tmp_path.rglob("losses.csv")
    assert "loss" not in losses.read_text().splitlines()[0].split(",")


@pytest.mark.parametrize("settings", ["mlflow", "file"])
def test_a_tracked_configuration_passes_the_check(settings, bundle, data, tmp_path):
    """Without MLflow, which `tests/interop/test_tracking.py` has: the configuration that it gives MONAI."""
    from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

    tracking = {**DEFAULT_EXP_MGMT_SETTINGS["mlflow"]}
    if settings == "file":
        handler = {"_target_": "MLFlowHandler", "tracking_uri": "sqlite:///x.db"}
        configs = {"tracking_uri": "sqlite:///x.db", "run_name": "first", "save_execute_config": False}
        tracking["configs"] = {**configs, "trainer": handler, "validator": {**handler, "iteration_log": False}}
    workflow = training(bundle, data, tmp_path)
    ConfigWorkflow.patch_bundle_tracking(workflow.parser, tracking)
    preflight.check(exists=data, config=workflow.parser)
    assert [handler["_target_"] for handler in workflow.parser["train#handlers"]] == ["MLFlowHandler"]
    assert [handler["_target_"] for handler in workflow.parser["validate#handlers"]] == ["MLFlowHandler"]
    workflow.parser["run_nam"] = "first"
    with pytest.raises(ValueError, match=r"no use for the id 'run_nam'.*Did you mean 'run_name'"):
        preflight.check(exists=data, config=workflow.parser)


LIFE = """
marker: {marker}
initialize: ["$open(@marker, 'a', encoding='utf-8').write('initialize ')"]
+run: ["$open(@marker, 'a', encoding='utf-8').write('run ')"]
finalize: ["$open(@marker, 'a', encoding='utf-8').write('finalize ')"]
"""


def test_initialize_run_and_finalize_follow_each_other_as_monai_runs_them(tmp_path):
    scan = save(tmp_path / "scan.nii.gz", *source("nec_t1t2"))
    overlay, marker = tmp_path / "life.yaml", tmp_path / "marker.txt"
    overlay.write_text(LIFE.format(marker=marker), encoding="utf-8")
    places = ["--dataset_dir", scan, "--output_dir", tmp_path / "out"]
    done(run(BUNDLES / "nec_t1t2", "inference", ["inference", overlay], *places, cwd=tmp_path))
    assert marker.read_text() == "initialize run finalize "
    assert (tmp_path / "out" / "scan_synthetic_T2.nii.gz").is_file()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_workflow_runs_as_often_as_a_program_asks(name, tmp_path):
    scan, root = save(tmp_path / "scan.nii.gz", *source(name)), BUNDLES / name
    workflow = ConfigWorkflow(
        config_file=str(root / "configs/inference.yaml"),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(root),
        dataset_dir=str(scan),
        output_dir=str(tmp_path / "out"),
        **OPTIONS[name],
    )
    written = []
    for _ in range(2):
        workflow.initialize()
        for _ in range(2):
            workflow.run()
            (path,) = (tmp_path / "out").glob("*.nii*")
            written.append(path.read_bytes())
            path.unlink()
        workflow.finalize()
    assert len(set(written)) == 1
    assert workflow.check_properties() == []


EXPORTS = {"ggcl": {"target": "B70f", "source": "B30f", "pixel_mm": 0.7}}
EXPORTS["kcgan_kernel_conversion"] = EXPORTS["ggcl"]


@pytest.mark.parametrize("name", OPTIONS)
def test_monai_can_configure_the_tensorrt_export_up_to_the_converter(name, tmp_path, monkeypatch):
    """The converter needs an NVIDIA GPU, so a stand-in for it notes what MONAI gives it (docs/export.md)."""
    given: list[dict[str, Any]] = []

    def converter(model: torch.nn.Module, **options: Any) -> torch.jit.ScriptModule:
        given.append(options)
        image = torch.zeros(options["input_shape"])
        assert model(image).shape[2] % image.shape[2] == 0
        weights = torch.load(root / "models" / "model.pt", weights_only=True)
        inner = getattr(model, "network", model).state_dict()
        assert all(torch.equal(inner[key], value) for key, value in weights.items())
        return torch.jit.script(model)

    monkeypatch.setattr(scripts, "convert_to_trt", converter)
    root = BUNDLES / name
    files = {"meta_file": str(root / "configs/metadata.json"), "config_file": str(root / "configs/inference.yaml")}
    scripts.trt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model_trt.ts"),
        ckpt_file=str(root / "models/model.pt"),
        precision="fp32",
        dynamic_batchsize=[1, 4, 8],
        bundle_root=str(root),
        **files,
        **EXPORTS.get(name, {}),
    )
    (options,) = given
    channels = 3 if name in ("nect2cect", "nec_t1t2") else 1  # the metadata's properties
    assert tuple(options["input_shape"])[:2] == (1, channels)
    assert (options["precision"], options["dynamic_batchsize"]) == ("fp32", [1, 4, 8])
    extra = {"metadata.json": ""}
    torch.jit.load(str(tmp_path / "model_trt.ts"), _extra_files=extra)
    assert b"RESEARCH USE ONLY" in extra["metadata.json"]


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(
        r"```python\n(from monai.*?)```", (ROOT / "docs" / "where_it_runs.md").read_text(), re.DOTALL
    )
    generate_phantom("brain", tmp_path / "DATA", patients=4, slices=2, size=64, workers=1)
    (tmp_path / "bundles").symlink_to(BUNDLES)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    first, second = capsys.readouterr().out.strip().splitlines()[-2:]
    assert first.startswith("[] ")
    assert "unpaired_score" in second
