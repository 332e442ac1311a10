"""TorchScript, ONNX and `.pt2`: each release's network computes what it computes in eager mode."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from common.networks import WithTarget, load_definition, load_weights, target_weights
from common.release.export import export_network

from .in_release import Call, call_in, command, documented

pytestmark = pytest.mark.interop

KERNELS = ["B30f", "B50f", "B70f"]
SOURCE, PIXEL_MM = "B50f", 0.7
TARGETS = {
    "ggcl": KERNELS,
    "kcgan_kernel_conversion": KERNELS,
    "nec_t1t2": [""],
    "nect2cect": [""],
    "sr_cyclegan": [""],
}
CHANNELS = {"nec_t1t2": 3, "nect2cect": 3}
RETURNED = {"nect2cect": 3}  # channels; the others return one slice
EXPORTED_SIZE = (96, 80)
SIZES = [(1, 64, 64), (3, 75, 50)]  # batch, height, width: others than the exported; odd
TOLERANCE = 2e-4  # 1e-4 of the range [-1, 1]
DIFFERENT = 0.01  # between targets: 20 HU
BOTH = pytest.mark.parametrize("form", ["TorchScript", "ONNX"])
EACH = pytest.mark.parametrize("bundle", TARGETS)


def export_calls(bundle: str) -> list[Call]:
    """What docs/export.md says, for each target kernel."""
    calls: list[Call] = []
    for target in TARGETS[bundle]:
        files: dict[str, Any] = {
            "net_id": "network_def",
            "ckpt_file": "models/model.pt",
            "meta_file": "configs/metadata.json",
            "config_file": "configs/inference.yaml",
        }
        if target:
            files |= {"target": target, "source": SOURCE, "pixel_mm": PIXEL_MM}
        shapes = {
            "dynamo": True,
            "input_names": ["image"],
            "output_names": ["pred"],
            "dynamic_shapes": [{0: "batch", 2: "height", 3: "width"}],
        }
        calls.append(("ckpt_export", {**files, "filepath": f"exported{target}.ts"}))
        calls.append(
            (
                "onnx_export",
                {
                    **files,
                    "filepath": f"exported{target}.onnx",
                    "use_trace": True,
                    "input_shape": [2, CHANNELS.get(bundle, 1), *EXPORTED_SIZE],
                    "converter_kwargs": shapes,
                },
            )
        )
    return calls


@pytest.fixture(scope="module")
def releases(unpacked: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the releases: exports are written into them."""
    folder = tmp_path_factory.mktemp("releases")
    return {name: Path(shutil.copytree(path, folder / name)) for name, path in unpacked.items()}


@pytest.fixture(scope="module")
def exported(releases: dict[str, Path]) -> Callable[[str], Path]:
    """From a bundle's name to its folder, in which the exports are; made when they are first asked for."""
    done: set[str] = set()

    def folder(bundle: str) -> Path:
        if bundle not in done:
            calls = export_calls(bundle)
            assert call_in(releases[bundle], calls) == [None] * len(calls)
            done.add(bundle)
        return releases[bundle]

    return folder


def eager(release: Path, target: str) -> nn.Module:
    """The network that `network.json` describes, with the weights, built without the configs."""
    network = load_definition(release, {})
    load_weights(network, release / "models" / "model.pt")
    if target:
        source = [*target_weights(KERNELS, SOURCE), PIXEL_MM]
        network = WithTarget(network, target_weights(KERNELS, target), source)
    return network.eval()


def loaded(release: Path, form: str, target: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if form == "TorchScript":
        return torch.jit.load(str(release / f"exported{target}.ts"))
    session = onnxruntime.InferenceSession(release / f"exported{target}.onnx")
    return lambda image: torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])


def image(bundle: str, size: tuple[int, int, int]) -> torch.Tensor:
    batch, height, width = size
    noise = torch.rand(batch, CHANNELS.get(bundle, 1), height, width, generator=torch.Generator().manual_seed(1))
    return noise * 2 - 1


@BOTH
@EACH
def test_an_export_computes_what_eager_mode_does_at_sizes_other_than_the_exported(bundle, form, exported):
    release = exported(bundle)
    for target in TARGETS[bundle]:
        network, export = eager(release, target), loaded(release, form, target)
        for size in SIZES:
            with torch.no_grad():
                expected, output = network(image(bundle, size)), export(image(bundle, size))
            assert_close(output, expected, rtol=0, atol=TOLERANCE)


@BOTH
@pytest.mark.parametrize("bundle", ["ggcl", "kcgan_kernel_conversion"])
def test_three_target_kernels_give_three_exports_with_three_outputs(bundle, form, exported):
    release = exported(bundle)
    with torch.no_grad():
        outputs = [loaded(release, form, target)(image(bundle, SIZES[0])) for target in KERNELS]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert (outputs[first] - outputs[second]).abs().max() > DIFFERENT


@EACH
def test_torchscript_carries_the_metadata_and_the_config(bundle, exported):
    release = exported(bundle)
    extra = {"metadata.json": "", "inference.json": ""}
    torch.jit.load(str(release / f"exported{TARGETS[bundle][0]}.ts"), _extra_files=extra)
    released = json.loads((release / "configs" / "metadata.json").read_text())
    stored = json.loads(extra["metadata.json"])
    assert {key: stored[key] for key in released} == released
    assert json.loads(extra["inference.json"])["network_def"]


@EACH
def test_onnx_names_its_axes(bundle, exported):
    session = onnxruntime.InferenceSession(exported(bundle) / f"exported{TARGETS[bundle][0]}.onnx")
    channels = CHANNELS.get(bundle, 1)
    assert session.get_inputs()[0].shape == ["batch", channels, "height", "width"]
    batch, channels, *sides = session.get_outputs()[0].shape
    assert (batch, channels) == ("batch", RETURNED.get(bundle, 1))
    for axis, written in zip(("height", "width"), sides, strict=True):
        if bundle != "sr_cyclegan":
            assert written == axis
            continue
        # bicubic interpolation writes 8*height as 8*(TruncToInt(8.0*ToFloat(height))//8)
        formula = written.replace("TruncToInt", "int").replace("ToFloat", "float")
        assert all(eval(formula, {"int": int, "float": float, axis: size}) == 8 * size for size in (3, 17, 64))


RUN = """
import json, sys, torch
files = {"metadata.json": "", "network.json": "", "inference.json": ""}
network = torch.export.load(sys.argv[1], extra_files=files).module()
outputs = [network(image) for image in torch.load(sys.argv[2])]
torch.save(outputs, sys.argv[2])
print(json.dumps([json.loads(files["network.json"])["class"], "monai" in sys.modules, "common" in sys.modules]))
"""


@EACH
def test_a_pt2_computes_what_eager_mode_does_at_any_size_with_torch_alone(bundle, unpacked, tmp_path):
    target = TARGETS[bundle][-1]
    options = {"target": target, "source": SOURCE, "pixel_mm": PIXEL_MM} if target else {}
    path, stated = export_network(unpacked[bundle], tmp_path / "network.pt2", **options)
    assert stated == 0.0
    images = [image(bundle, size) for size in [*SIZES, (2, 64, 67), (1, 33, 160)]]
    torch.save(images, tmp_path / "images.pt")
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(path), str(tmp_path / "images.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    definition = json.loads((unpacked[bundle] / "models" / "network.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == [definition["class"], False, False]
    network = eager(unpacked[bundle], target)
    for given, output in zip(images, torch.load(tmp_path / "images.pt"), strict=True):
        with torch.no_grad():
            assert_close(output, network(given), rtol=0, atol=1e-6)


def test_an_export_that_computes_something_else_is_refused(unpacked, tmp_path, monkeypatch):
    monkeypatch.setattr("common.release.export.largest_difference", lambda *_: 0.1)
    with pytest.raises(ValueError, match=r"must compute what eager mode does, but differs by 0\.1"):
        export_network(unpacked["nec_t1t2"], tmp_path / "network.pt2")
    with pytest.raises(ValueError, match=r"`output` must be a file \*\.pt2, got 'network.ts'"):
        export_network(unpacked["nec_t1t2"], "network.ts")
    assert list(tmp_path.iterdir()) == []


def test_the_commands_of_the_page_run_as_they_are_written(releases):
    lines = [line for line in documented("export") if " ckpt_export " in line or " onnx_export " in line]
    assert len(lines) == 2
    release = releases["ggcl"]
    for line in lines:
        done = command(release, [*shlex.split(line)[1:], *shlex.split("--target B70f --source B30f --pixel_mm 0.7")])
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    network = WithTarget(eager(release, ""), target_weights(KERNELS, "B70f"), [1.0, 0.0, 0.0, 0.7])
    session = onnxruntime.InferenceSession(release / "models" / "model.onnx")
    with torch.no_grad():
        expected = network(image("ggcl", SIZES[1]))
        assert_close(torch.jit.load(str(release / "models" / "model.ts"))(image("ggcl", SIZES[1])), expected)
    (output,) = session.run(None, {"image": image("ggcl", SIZES[1]).numpy()})
    assert_close(torch.from_numpy(output), expected, rtol=0, atol=TOLERANCE)
