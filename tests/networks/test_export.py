"""TorchScript and ONNX compute what eager mode computes, at sizes other than the exported one."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch.testing import assert_close

from common.networks import (
    BicubicResidualGenerator,
    CompactGenerator,
    DownSamplingGenerator,
    NECGenerator,
    PatchDiscriminatorPyramid,
    SPADEGenerator,
    SRUNITGenerator,
    SuperResolutionGenerator,
)

# Odd and even, less than one block of the padding (which becomes two), and already a multiple.
SIZES = {2: [(40, 33), (3, 5), (16, 64)], 3: [(20, 13, 9), (3, 16, 7)]}
GENERATORS = [("nec", 2), ("compact", 2), ("spade", 2), ("nec", 3), ("compact", 3)]
GENERATORS += [("super_resolution", 2), ("residual_super_resolution", 2), ("down_sampling", 2), ("sr_unit", 2)]
GENERATORS += [("bicubic", 2)]

# To export takes seconds, in 3-D ten.
ONNX = [case if case != ("compact", 3) else pytest.param(*case, marks=pytest.mark.slow) for case in GENERATORS]


def build(kind, dims):
    torch.manual_seed(0)
    if kind == "nec":
        return NECGenerator(dims, 1, channels=(4, 6, 8), num_res_units=2).eval()
    if kind == "spade":
        return SPADEGenerator(1, out_channels=1, channels=(4, 4), num_groups=2, spade_channels=2).eval()
    if kind.endswith("super_resolution"):
        output = "residual" if kind.startswith("residual") else "tanh"
        return SuperResolutionGenerator(factor=4, channels=8, num_res_blocks=1, output=output).eval()
    if kind == "down_sampling":
        return DownSamplingGenerator(factor=2, channels=4, num_res_blocks=1).eval()
    if kind == "bicubic":
        network = BicubicResidualGenerator(factor=4, channels=8, num_res_blocks=1).eval()
        torch.nn.init.normal_(network.head.weight, 0, 0.3)
        torch.nn.init.constant_(network.amplitude.bias, -3)  # as after a training: phases are exact to 1e-4 alone
        return network
    if kind == "sr_unit":
        return SRUNITGenerator(factor=2, channels=4, num_res_blocks=1).eval()
    return CompactGenerator(dims, 1, channels=(4, 8), num_groups=2, num_res_units=1, margin=3).eval()


def random_image(batch, size):
    return torch.rand(batch, 1, *size) * 2 - 1


@pytest.mark.parametrize(("kind", "dims"), GENERATORS)
def test_torchscript(kind, dims):
    network, file = build(kind, dims), io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    for batch, size in enumerate(SIZES[dims], start=1):
        image = random_image(batch, size)
        assert_close(scripted(image), network(image))
    with pytest.raises(torch.jit.Error, match="`image` must have"):
        scripted(torch.zeros(1, 1, 8))


def test_torchscript_of_the_discriminator():
    discriminator = PatchDiscriminatorPyramid(channels=4, num_layers=1)
    image = random_image(2, (33, 40))
    assert_close(torch.jit.script(discriminator)(image), discriminator(image))


@pytest.mark.parametrize(("kind", "dims"), ONNX)
def test_onnx(kind, dims, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, path = build(kind, dims), tmp_path / "network.onnx"
    free = {axis: torch.export.Dim.DYNAMIC for axis in (0, *range(2, 2 + dims))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (random_image(2, SIZES[dims][0]),), path, dynamo=True, dynamic_shapes=(free,), verbose=False
        )
    session = onnxruntime.InferenceSession(path)
    for batch, size in enumerate(SIZES[dims], start=1):
        image = random_image(batch, size)
        (output,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        with torch.no_grad():
            assert_close(torch.from_numpy(output), network(image), rtol=1e-4, atol=1e-5)


def test_trace_follows_the_image_size():
    network = build("nec", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, random_image(1, (40, 33)))
    for batch, size in enumerate(SIZES[2], start=1):
        image = random_image(batch, size)
        assert_close(traced(image), network(image))
