"""Trainings, translations and exports on a GPU give what they give on the processor.

    python -m pytest -m gpu tests/bundles/test_on_gpu.py

Random numbers are drawn on the processor in both cases. `GPU_TEST_DEVICE=cpu` runs the same code without a GPU.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.engines.utils import IterationEvents
from torch.export.passes import move_to_device_pass
from torch.overrides import TorchFunctionMode

from common.networks import load_definition, load_weights
from common.release.export import export_program
from tests.helpers.bundles import ROOT
from tests.helpers.tiny_trainings import CASES, parsed, write_images

from .test_golden import GOLDEN, OPTIONS, translate

DEVICE = os.environ.get("GPU_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="PyTorch finds no CUDA device"),
]
STEPS = 2
LOSS_RTOL = (1e-3, 2e-2)  # of the first step, and of the second one, which follows from rounded weights
HU_ATOL, CHANGED_SHARE = 1.0, 1e-3  # whole HU: what lies near a half may round to the next one
MR_ATOL = 1.0  # of a range of 4000
EXPORT_ATOL = 1e-4  # of [-1, 1]


class DrawnOnCpu(TorchFunctionMode):
    """Draws random numbers on the processor, whatever device they are for."""

    DRAWS = (torch.rand, torch.randn, torch.randint, torch.randperm)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func in self.DRAWS and options.get("device") is not None:
            device = options.pop("device")
            return func(*args, **options).to(device)
        return func(*args, **options)


@pytest.fixture(autouse=True)
def exact_products():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("gpu")
    write_images(root / "images")
    for name in ("nect_classifier", "nect_removal"):  # stages that others build on
        parser = parsed(name, root, root / "single" / name, max_epochs=1, classifier_epochs=1, samples_per_epoch=4)
        parser.get_parsed_content("train#trainer").run()
    return root


def train(
    name: str, root: Path, out: Path, device: str, epochs: int = 1, *, stop: bool = False, **more: Any
) -> tuple[Any, list[dict]]:
    """Two steps an epoch, up to the first one's end with `stop`; the trainer, and the losses of each step."""
    lengths: dict[str, Any] = {"max_epochs": epochs, "samples_per_epoch": 4 * STEPS}
    lengths |= {"classifier_epochs": epochs} if name == "nect_classifier" else {}
    parser = parsed(name, root, out, device=device, **lengths, **more)
    parser.get_parsed_content("start_up")
    trainer = parser.get_parsed_content("train#trainer")
    losses: list[dict] = []

    def note() -> None:
        losses.append({n: float(v) for n, v in trainer.state.output.named.items() if v.dim() == 0})

    trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, note)
    if stop:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.terminate())
    with DrawnOnCpu():
        trainer.run()
    return trainer, losses


@pytest.mark.parametrize("name", CASES)
def test_two_steps_of_a_training_have_the_losses_of_the_processor(root, tmp_path, name):
    _, expected = train(name, root, tmp_path / "cpu", "cpu")
    trainer, found = train(name, root, tmp_path / "device", DEVICE)
    assert len(found) == len(expected) == STEPS
    assert next(trainer.network.parameters()).device.type == torch.device(DEVICE).type
    for step, rtol in enumerate(LOSS_RTOL):
        assert found[step].keys() == expected[step].keys() != set()
        for loss, value in expected[step].items():
            assert found[step][loss] == pytest.approx(value, rel=rtol, abs=1e-4), f"{loss} of step {step + 1}"


@pytest.mark.parametrize("name", ["ggcl", "nec", "sr_cyclegan"])
def test_a_resumed_training_ends_like_a_straight_one(root, tmp_path, name):
    straight, _ = train(name, root, tmp_path / "straight", DEVICE, epochs=2)
    train(name, root, tmp_path / "parts", DEVICE, epochs=2, stop=True)
    resumed, _ = train(name, root, tmp_path / "parts", DEVICE, epochs=2)
    assert resumed.epoch == 2
    for one, other in zip(straight.network.parameters(), resumed.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["ggcl", "nec", "nect_joint", "sr_cyclegan"])
def test_mixed_precision_trains_with_finite_losses_near_those_of_float32(root, tmp_path, name, dtype):
    if DEVICE == "cpu" and dtype == "float16":
        pytest.skip("the processor has no float16 autocast with gradient scaling for every layer")
    _, expected = train(name, root, tmp_path / "exact", DEVICE)
    options = {"train#trainer#amp": True, "train#trainer#amp_dtype": dtype}
    trainer, found = train(name, root, tmp_path / "amp", DEVICE, **options)
    assert all(np.isfinite(list(step.values())).all() for step in found)
    assert all(bool(p.isfinite().all()) for p in trainer.network.parameters())
    for loss, value in expected[0].items():
        assert found[0][loss] == pytest.approx(value, rel=0.2, abs=0.2), loss


@pytest.mark.parametrize("bundle", OPTIONS)
def test_the_shipped_weights_translate_as_on_the_processor(monkeypatch, tmp_path, bundle):
    source = GOLDEN / f"{bundle}_source.nii.gz"
    expected = nib.load(translate(bundle, source, tmp_path / "cpu"))
    update = ConfigParser.update

    def on_device(self: ConfigParser, pairs: dict[str, Any]) -> None:
        update(self, {**pairs, **({"device": f"$torch.device('{DEVICE}')"} if "device" in pairs else {})})

    monkeypatch.setattr(ConfigParser, "update", on_device)
    found = nib.load(translate(bundle, source, tmp_path / "device"))
    first, second = (np.asarray(image.dataobj, dtype=np.float64) for image in (expected, found))
    atol = MR_ATOL if bundle == "nec_t1t2" else HU_ATOL
    np.testing.assert_allclose(second, first, rtol=1e-4, atol=atol)
    if bundle != "nec_t1t2":
        assert np.mean(first != second) < CHANGED_SHARE


@pytest.mark.parametrize("bundle", ["nec_t1t2", "nect2cect", "sr_cyclegan"])
def test_an_export_computes_on_the_device_what_the_network_does(bundle):
    network = load_definition(ROOT / "bundles" / bundle, {})
    load_weights(network, ROOT / "bundles" / bundle / "models" / "model.pt")
    channels = 3 if bundle == "nect2cect" else 1
    data = export_program(network.eval(), channels)
    exported = move_to_device_pass(torch.export.load(io.BytesIO(data)), DEVICE).module()
    image = torch.rand(1, channels, 96, 80, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        found, expected = exported(image.to(DEVICE)).cpu(), network(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=EXPORT_ATOL)
