"""The misalignment experiment of the NECT2CECT bundle: its configs, and the benchmark that runs and tabulates it."""

from __future__ import annotations

import ast
import importlib.util
import json

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.bundle import run as run_bundle

from common import preflight
from common.phantoms import generate_phantom
from tests.helpers.bundles import ROOT

BUNDLE = ROOT / "bundles" / "nect2cect"
CONFIGS = BUNDLE / "configs"
TRAINING = ["train", "demo", "misalignment"]
EVALUATION = ["inference", "evaluate", "evaluate_misalignment"]
STAGES = ["train_classifier", "train_contrast_removal", "train_joint", "baselines/single", "baselines/cycle"]
TINY = {
    "spacing_mm": [4.0, 4.0],
    "image_size": 64,
    "max_epochs": 1,
    "samples_per_epoch": 2,
    "channels": [8, 8],
    "spade_channels": 2,
    "discriminator_channels": [8, 8],
    "classifier_width": 2,
}


def parsed(*names: str, **overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in names])
    parser.update({"bundle_root": str(BUNDLE), **overrides})
    return parser


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("misalignment", ROOT / "benchmarks" / "misalignment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def brain_pd(tmp_path_factory):
    """4 patients of 4 slices of 64 x 64 pixels (4 mm)."""
    folder = tmp_path_factory.mktemp("brain_pd")
    generate_phantom("brain_pd", folder, patients=4, slices=4, size=64, workers=1)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        TRAINING,
        ["train", "misalignment"],
        *([*TRAINING, stage] for stage in STAGES),
        [*TRAINING, "baselines/misaligned"],
        EVALUATION,
    ],
    ids=" ".join,
)
def test_every_combination_passes_the_preflight(names):
    parser = parsed(*names)
    parser.parse()
    preflight.check(config=parser)


def test_the_settings_are_the_papers():
    config = yaml.safe_load((CONFIGS / "misalignment.yaml").read_text())
    stated = {"source": "T2", "target": "PD", "k": 0.02, "max_epochs": 20, "image_size": 128, "middle_slices": 64}
    assert {name: config[name] for name in stated} == stated


def test_training_and_evaluation_load_and_scale_alike():
    training, evaluation = (
        yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("misalignment", "evaluate_misalignment")
    )
    assert training["load"] == evaluation["load"]
    assert training["encode"] == evaluation["encode"]


def test_only_training_targets_are_perturbed_and_none_without_distortion(brain_pd):
    volumes = {}
    for k in (0.0, 0.05):
        parser = parsed(*TRAINING, dataset_dir=str(brain_pd), k=k, **TINY)
        volumes[k] = {name: parser.get_parsed_content(f"train#{name}_volumes") for name in ("source", "target")}
        aligned = parser.get_parsed_content("aligned_targets")
        pairs = list(zip(volumes[k]["target"], aligned, strict=True))
        assert len(pairs) == 2
        assert all(torch.equal(target, before) == (k == 0) for target, before in pairs)
        assert all(target.shape == before.shape == (1, 64, 64, 4) for target, before in pairs)
    for without, distorted in zip(volumes[0.0]["source"], volumes[0.05]["source"], strict=True):
        assert torch.equal(without, distorted)


def test_the_middle_slices_are_kept(brain_pd):
    parser = parsed(*TRAINING, dataset_dir=str(brain_pd), **{**TINY, "middle_slices": 3})
    assert [tuple(volume.shape) for volume in parser.get_parsed_content("train#source_volumes")] == [(1, 64, 64, 3)] * 2


def in_this_process(calls):
    """Stands for a process of its own, which takes seconds to start."""

    def run(run_id, files, arguments, log):
        options = dict(zip((name.removeprefix("--") for name in arguments[::2]), arguments[1::2], strict=True))
        options = {
            name: ast.literal_eval(value) if value[0] in "[{0123456789" else value for name, value in options.items()
        }
        calls.append((run_id, log.parent.name, options.get("stage")))
        run_bundle(run_id=run_id, config_file=files, **options)
        return 1.5

    return run


def test_the_benchmark_trains_shared_stages_once_and_nothing_twice(benchmark, brain_pd, monkeypatch, tmp_path):
    calls: list[tuple] = []
    monkeypatch.setattr(benchmark, "_bundle", in_this_process(calls))
    options = {**TINY, "phantom": {"patients": 4, "slices": 4, "size": 64}}
    arguments = {"output_dir": str(tmp_path / "runs"), "ks": 0.05, "result": str(tmp_path / "result.json")}
    arguments |= {"data": str(brain_pd), "methods": "ours_j,ours_s"}
    benchmark.run(**arguments, options=options)
    trained = [stage for run_id, _, stage in calls if run_id == "training"]
    assert trained == ["classifier", "ours_j", "contrast_removal", "ours_s"]
    assert len(calls) == 4 + 2  # and an evaluation of each method
    first = json.loads((tmp_path / "result.json").read_text())
    benchmark.run(**arguments, options=options)
    assert len(calls) == 6
    assert json.loads((tmp_path / "result.json").read_text()) == first
    for each in first["runs"]:
        assert set(each["summary"]) == {"network", "identity", "intensity_curve"}
        assert each["summary"]["network"]["mse_x100"]["mean"] > 0
        assert each["training"][each["method"]] == {"epochs": 1, "iterations": 1, "cpu_seconds": 1.5}
    assert (tmp_path / "runs" / "k0.05" / "evaluation" / "ours_s" / "metrics.csv").is_file()  # per patient
    definition = json.loads((tmp_path / "runs" / "k0.05" / "models" / "ours_s" / "network.json").read_text())
    assert definition["k"] == 0.05
    assert definition["codec"]["percentiles"] == [1.0, 99.0]
    with pytest.raises(ValueError, match=r"holds runs of another setting, .*: choose another `output_dir`"):
        benchmark.run(**arguments, options={**options, "max_epochs": 2})


def test_an_unknown_method_is_refused(benchmark, tmp_path):
    with pytest.raises(ValueError, match=r"`methods` must be among \['single', .*\], got \['ours'\]\."):
        benchmark.run(output_dir=str(tmp_path), methods="ours")


def test_the_table_is_the_papers(benchmark, tmp_path, capsys):
    def summary(mse: float, similarity: float) -> dict:
        return {"mse_x100": {"mean": mse, "std": 0.1}, "ms_ssim_kernel7": {"mean": similarity, "std": 0.1}}

    identity = {"identity": summary(4.0349, 0.8127)}
    runs = [
        {"k": 0.05, "method": "single", "summary": {"network": summary(0.574, 0.907), **identity}},
        {"k": 0.01, "method": "single", "summary": {"network": summary(0.356, 0.928), **identity}},
        {"k": 0.01, "method": "ours_s", "summary": {"network": summary(0.271, 0.949), **identity}},
    ]
    (tmp_path / "result.json").write_text(json.dumps({"runs": runs}))
    benchmark.table(str(tmp_path / "result.json"))
    assert capsys.readouterr().out.splitlines() == [
        "| method | k = 0.01: MSE x 100 | k = 0.01: MS-SSIM (kernel 7)"
        " | k = 0.05: MSE x 100 | k = 0.05: MS-SSIM (kernel 7) |",
        "|---|---|---|---|---|",
        "| Single | 0.356 | 0.928 | 0.574 | 0.907 |",
        "| Ours-S | 0.271 | 0.949 |  |  |",
        "| identity | 4.035 | 0.813 | 4.035 | 0.813 |",
    ]
