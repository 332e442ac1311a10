"""One source, three targets, three outputs: called, by the configs' inferer, in TorchScript and in ONNX."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn
from torch.testing import assert_close

from common.inference import ConversionInferer
from common.networks import PhysicsGenerator, StarGANGenerator, WithTarget, target_weights

KERNELS = ["B30f", "B50f", "B70f"]
SOURCE, PIXEL_MM = "B50f", 0.7
SIZES = [(40, 36), (64, 45)]  # the exported one, and another
DIFFERENT = 1e-3  # of the range [-1, 1]: 2 HU


def generator(kind: str) -> nn.Module:
    """Random weights; the filters of the physics generator are exp(slope f), another slope for each pair."""
    torch.manual_seed(0)
    if kind == "stargan":
        return StarGANGenerator(3, channels=4, num_res_blocks=0).eval()
    options = {"air_below": None} if kind == "physics without air" else {}
    network = PhysicsGenerator(3, channels=4, num_res_blocks=0, **options).eval()
    for source in range(3):
        for target in {0, 1, 2} - {source}:
            network.filters.set(source, target, lambda f, slope=0.5 * (target - source): np.exp(slope * f))
    nn.init.normal_(network.refine.head.weight, std=0.05)
    return network


def bound(kind: str, target: str) -> WithTarget:
    """As inference binds it: the physics generator to source and pixel size as well."""
    network = WithTarget(generator(kind), target_weights(KERNELS, target))
    return network if kind == "stargan" else network.from_source(target_weights(KERNELS, SOURCE), PIXEL_MM)


def image(size: tuple[int, int], batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def scripted(network: WithTarget, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    return torch.jit.load(file)


def traced(network: WithTarget, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(network, image(SIZES[0]))


def onnx(network: WithTarget, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = folder / "network.onnx"
    free = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image(SIZES[0], batch=2),), path, dynamo=True, dynamic_shapes=(free,), verbose=False
        )
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def direct(network: WithTarget, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    return network


@pytest.mark.parametrize(
    ("kind", "export"),
    [
        *(("stargan", export) for export in (direct, scripted, traced)),
        pytest.param("stargan", onnx, marks=pytest.mark.slow),  # each of the exports takes seconds
        *(("physics", export) for export in (direct, traced, onnx)),
        ("physics", scripted),
        ("physics without air", scripted),
    ],
)
def test_three_targets_give_three_outputs_and_an_export_computes_what_torch_does(kind, export, tmp_path):
    outputs = []
    for target in KERNELS:
        network = bound(kind, target)
        exported = export(network, tmp_path)
        for batch, size in enumerate(SIZES, start=1):
            with torch.no_grad():
                expected, output = network(image(size, batch)), exported(image(size, batch))
            assert_close(output, expected, rtol=0, atol=1e-4)
        outputs.append(output)
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert (outputs[first] - outputs[second]).abs().max() > DIFFERENT


@pytest.mark.parametrize("kind", ["stargan", "physics"])
def test_the_configs_inferer_gives_what_the_network_bound_to_the_volume_gives(kind):
    volume = torch.stack([image(SIZES[0], 2)[i] for i in range(2)], dim=-1)[None]  # (1, 1, X, Y, 2)
    affine = torch.diag(torch.tensor([-PIXEL_MM, PIXEL_MM, 2.0, 1.0], dtype=torch.float64))
    source = MetaTensor(volume, affine=affine, meta={"source_domain": SOURCE})
    outputs = []
    for target in KERNELS:
        inferred = ConversionInferer(KERNELS, batch_size=1)
        with torch.no_grad():
            output = inferred(source, WithTarget(generator(kind), target_weights(KERNELS, target)))
            slices = [bound(kind, target)(volume[..., z]) for z in range(2)]
        assert_close(torch.as_tensor(output).as_tensor(), torch.stack(slices, dim=-1), rtol=0, atol=1e-5)
        outputs.append(output)
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert (outputs[first] - outputs[second]).abs().max() > DIFFERENT
