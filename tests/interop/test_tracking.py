"""MONAI's `--tracking mlflow` and a file of tracking settings, with MLflow itself in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.interop

KERNELS = "--samples_per_epoch 4 --image_size 128 --critic_steps 2 --channels 8 --num_res_blocks 1"
KERNELS += " --discriminator_channels 4 --validation_slices 1"
TRAININGS = {  # overlays, data and options; the contrast bundle's stage is one that needs no other
    "ggcl": ("", "chest", KERNELS),
    "kcgan_kernel_conversion": ("", "chest", KERNELS),
    "nec_t1t2": ("demo", "brain", "--samples_per_epoch 4 --batch_size 2 --image_size 64"),
    "nect2cect": ("demo train_classifier", "abdomen", "--samples_per_epoch 4 --image_size 64"),
    "sr_cyclegan": ("demo", "lung", "--samples_per_epoch 4 --patch_size 12"),
}
VALIDATED = ("ggcl", "kcgan_kernel_conversion", "nec_t1t2")
# Prints metrics, with all their values, and state of the runs in a database.
READ = """
import json, sys, mlflow
client = mlflow.MlflowClient(tracking_uri=sys.argv[1])
experiment = client.get_experiment_by_name(sys.argv[2])
runs = client.search_runs(experiment.experiment_id)
def values(run, key):
    return [metric.value for metric in client.get_metric_history(run.info.run_id, key)]
def facts(run):
    metrics = {key: values(run, key) for key in run.data.metrics}
    return {"name": run.info.run_name, "status": run.info.status, "metrics": metrics}
print(json.dumps([facts(run) for run in runs]))
"""


@pytest.fixture(scope="module")
def python(environment: Callable[[str], Path]) -> Path:
    return environment("mlflow")


def run(python: Path, *words: object, cwd: Path) -> str:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [str(python), *map(str, words)]
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300, env=variables)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def bundle_run(python: Path, name: str, run_id: str, files: list[str], *words: object, cwd: Path) -> None:
    root = ROOT / "bundles" / name
    paths = [str(root / "configs" / f"{file}.yaml") for file in files]
    run(python, "-m", "monai.bundle", "run", run_id, "--config_file", paths, "--bundle_root", root, *words, cwd=cwd)


def tracked(python: Path, uri: str, experiment: str, cwd: Path) -> list[dict[str, Any]]:
    return json.loads(run(python, "-c", READ, uri, experiment, cwd=cwd).splitlines()[-1])


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_is_tracked_with_its_losses_and_its_validation(name, python, phantoms, tmp_path):
    overlays, kind, options = TRAININGS[name]
    places = ["--dataset_dir", phantoms[kind], "--models_dir", tmp_path / "models", "--output_dir", tmp_path / "out"]
    more = [*places, "--make_data", "$None", *options.split(), "--max_epochs", 2, "--val_interval", 1]
    more += ["--classifier_epochs", 2] if name == "nect2cect" else []
    bundle_run(python, name, "training", ["train", *overlays.split()], *more, "--tracking", "mlflow", cwd=tmp_path)
    (found,) = tracked(python, f"sqlite:///{tmp_path}/out/mlruns.db", "monai_experiment", tmp_path)
    assert found["status"] == "FINISHED"
    (losses,) = (tmp_path / "out").rglob("losses.csv")
    head, *rows = (line.split(",") for line in losses.read_text().splitlines())
    column = "generator" if "generator" in head else "classification"
    last = float([row[head.index(column)] for row in rows if row[head.index(column)]][-1])
    assert found["metrics"]["train_loss"][-1] == pytest.approx(last, rel=1e-5)
    assert ("unpaired_score" in found["metrics"]) == (name in VALIDATED)
    if name in VALIDATED:
        assert len(found["metrics"]["unpaired_score"]) == 2


def test_a_settings_file_passes_preflight_and_names_the_run(python, phantoms, tmp_path):
    uri = f"sqlite:///{tmp_path}/own.db"
    handler = {
        "_target_": "MLFlowHandler",
        "tracking_uri": "@tracking_uri",
        "experiment_name": "@experiment_name",
        "run_name": "@run_name",
    }
    loss = {"output_transform": "$monai.handlers.from_engine(['loss'], first=True)", "tag_name": "loss"}
    settings = {
        "handlers_id": {"trainer": {"id": "train#trainer", "handlers": "train#handlers"}},
        "configs": {
            "tracking_uri": uri,
            "experiment_name": "kernels",
            "run_name": "first",
            "save_execute_config": False,
            "is_not_rank0": False,
            "trainer": {**handler, **loss, "close_on_complete": True},
        },
    }
    (tmp_path / "tracking.json").write_text(json.dumps(settings))
    overlays, kind, options = TRAININGS["nec_t1t2"]
    places = ["--dataset_dir", phantoms[kind], "--models_dir", tmp_path / "models", "--output_dir", tmp_path / "out"]
    more = [*places, "--make_data", "$None", *options.split(), "--max_epochs", 1]
    line = [*more, "--tracking", tmp_path / "tracking.json"]
    bundle_run(python, "nec_t1t2", "training", ["train", *overlays.split()], *line, cwd=tmp_path)
    (found,) = tracked(python, uri, "kernels", tmp_path)
    assert (found["name"], found["status"], len(found["metrics"]["loss"])) == ("first", "FINISHED", 2)


@pytest.mark.parametrize(("run_id", "files"), [("inference", ["inference"]), ("evaluating", ["inference", "evaluate"])])
def test_inference_and_evaluation_are_tracked(run_id, files, python, phantoms, tmp_path):
    places = ["--dataset_dir", phantoms["brain"], "--output_dir", tmp_path / "out"]
    bundle_run(python, "nec_t1t2", run_id, files, *places, "--tracking", "mlflow", cwd=tmp_path)
    (found,) = tracked(python, f"sqlite:///{tmp_path}/out/mlruns.db", "monai_experiment", tmp_path)
    assert found["status"] == "FINISHED"
