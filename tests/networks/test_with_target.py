"""One source, three targets, three outputs: called, by the configs' inferer, in TorchScript and in ONNX."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn
from torch.testing import assert_close

from common.inference import ConversionInferer
from common.networks import PhysicsGenerator, StarGANGenerator, WithTarget, source_label, target_weights

KERNELS = ["B30f", "B50f", "B70f"]
# A multiple of 4, odd, and less than one block of the padding.
SIZES = [(40, 33), (3, 5), (16, 64)]


def build(upsample="pixelshuffle", target=(0.0, 0.25, 0.75)):
    torch.manual_seed(0)
    return WithTarget(StarGANGenerator(3, channels=4, num_res_blocks=1, upsample=upsample), target).eval()


def random_image(batch, size):
    return torch.rand(batch, 1, *size) * 2 - 1


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("target", [(0.0, 0.0, 1.0), [0.5, 0.0, 0.5], torch.tensor([0, 1, 0])])
def test_translates_each_image_to_the_bound_target(batch, target):
    network, image = build(target=target), random_image(batch, (12, 17))
    row = torch.as_tensor(target).float()
    assert_close(network(image), network.network(image, row.repeat(batch, 1)), rtol=0, atol=0)


def test_its_weights_are_the_generators_whatever_the_target():
    network, other = build(), build(target=(1.0, 0.0, 0.0))
    assert set(network.state_dict()) == set(network.network.state_dict())
    image = random_image(1, (8, 8))
    before = other(image)
    with torch.no_grad():
        network.network.head.weight.mul_(2)
    other.load_state_dict(network.state_dict())
    assert other.target.tolist() == [1.0, 0.0, 0.0]
    assert not torch.allclose(other(image), before)
    assert network.double().target.dtype == torch.float64


def test_a_source_and_a_pixel_size_are_bound_behind_the_target():
    bound = build(target=(0.0, 0.0, 1.0)).from_source([1.0, 0.0, 0.0], 0.7)
    assert_close(bound.target, torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.7]))


def test_another_source_replaces_the_bound_one():
    bound = WithTarget(StarGANGenerator(3, channels=4, num_res_blocks=1), (0.0, 0.0, 1.0), [0.0, 1.0, 0.0, 0.6])
    assert_close(bound.target, torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.6]))
    again = bound.from_source([1.0, 0.0, 0.0], 0.7)
    assert_close(again.target, torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.7]))
    assert again.network is bound.network
    assert bound.double().from_source([1.0, 0.0, 0.0], 0.7).target.dtype == torch.float64


PHYSICS = {"class": "common.networks.PhysicsGenerator", "domains": KERNELS, "spacing_mm": [0.5, 0.75]}


@pytest.mark.parametrize(
    ("target", "asked", "expected"),
    [
        ("B30f", {}, [0.0, 1.0, 0.0, 0.625]),  # the first other kernel, the middle of the pixel sizes
        ("B70f", {}, [1.0, 0.0, 0.0, 0.625]),
        ({"B30f": 0.5, "B70f": 0.5}, {}, [1.0, 0.0, 0.0, 0.625]),
        ("B30f", {"source": "B70f", "pixel_mm": 0.7}, [0.0, 0.0, 1.0, 0.7]),
        ("B30f", {"source": "B30f"}, [1.0, 0.0, 0.0, 0.625]),
    ],
)
def test_a_network_that_depends_on_the_source_has_one_without_a_volume(target, asked, expected):
    assert source_label(PHYSICS, target, **asked) == expected


def test_a_network_that_sees_the_image_alone_has_no_source():
    assert source_label({**PHYSICS, "class": "StarGANGenerator"}, "B30f", "B50f", 0.7) is None


def test_a_source_that_was_not_trained_is_refused():
    with pytest.raises(ValueError, match=r"`source` must be one of the trained kernels \['B30f', .*\], got 'B31f'"):
        source_label(PHYSICS, "B30f", "B31f")


def test_the_callers_tensor_is_not_shared():
    target = torch.tensor([1.0, 0.0, 0.0])
    network = build(target=target)
    target[0] = 7.0
    assert network.target.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", [(), (1, 3), (0,)])
def test_target_that_is_no_vector_is_refused(shape):
    with pytest.raises(
        ValueError, match=r"`target` must hold one weight per domain, .*, got the shape \[.*\]: bind one"
    ):
        build(target=torch.zeros(shape))


def test_target_of_another_length_is_refused_by_the_network():
    with pytest.raises(ValueError, match=r"`target` must have the shape .*, here \(2, 3\), got \[1, 4\]"):
        build(target=[0.0] * 4)(random_image(2, (8, 8)))


@pytest.mark.parametrize("upsample", ["pixelshuffle", "transposed"])
def test_torchscript(upsample):
    network, file = build(upsample), io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    for batch, size in enumerate(SIZES, start=1):
        image = random_image(batch, size)
        assert_close(scripted(image), network(image))
    with pytest.raises(torch.jit.Error, match="`image` must have"):
        scripted(torch.zeros(1, 1, 8))


@pytest.mark.parametrize("upsample", ["pixelshuffle", "transposed"])
def test_onnx(upsample, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, path = build(upsample), tmp_path / "network.onnx"
    free = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (random_image(2, SIZES[0]),), path, dynamo=True, dynamic_shapes=(free,), verbose=False
        )
    session = onnxruntime.InferenceSession(path)
    for batch, size in enumerate(SIZES, start=1):
        image = random_image(batch, size)
        (output,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        with torch.no_grad():
            assert_close(torch.from_numpy(output), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "weights"),
    [
        ("B30f", [1.0, 0.0, 0.0]),
        ("B70f", [0.0, 0.0, 1.0]),
        ({"B50f": 1}, [0.0, 1.0, 0.0]),
        ({"B30f": 0.5, "B70f": 0.5}, [0.5, 0.0, 0.5]),
        ({"B30f": 1 / 3, "B50f": 1 / 3, "B70f": 1 / 3 + 9e-7}, [1 / 3, 1 / 3, 1 / 3 + 9e-7]),
    ],
)
def test_target_weights(target, weights):
    assert target_weights(KERNELS, target) == weights
    assert all(type(weight) is float for weight in target_weights(tuple(KERNELS), target))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("b70f", r"`target` must name one of the domains B30f, B50f, B70f, got 'b70f'\. Did you mean 'B70f'\?"),
        ("sharp", r"`target` must name one of the domains B30f, B50f, B70f, got 'sharp'\.$"),
        ({"B30f": 0.5, "B71f": 0.5}, r"got 'B71f'\. Did you mean 'B70f'\?"),
        ({"B30f": 1.5, "B50f": -0.5}, r"`target` must give each domain a weight >= 0, got -0.5 for 'B50f'\."),
        ({"B30f": math.nan}, r"weight >= 0, got nan for 'B30f'\."),
        ({"B30f": 0.5, "B50f": 0.4}, r"weights of `target` must sum to 1, got \{.*\}, whose sum is 0\.9\."),
        ({"B30f": 1.0 + 2e-6}, r"must sum to 1"),
        ({}, r"must sum to 1, got \{\}, whose sum is 0\. E\.g\. \{B30f: 0\.5, B70f: 0\.5\}\."),
        ({"B30f": "half", "B70f": 0.5}, r"`target` must give each domain a weight >= 0, got 'half' for 'B30f'\."),
        (
            ["B30f", "B70f"],
            r"`target` must be one of the domains B30f, .*, or a blend such as \{B30f: 0\.5, B70f: 0\.5\}, got",
        ),
        (70, r"a blend such as \{B30f: 0\.5, B70f: 0\.5\}, got 70\."),
    ],
)
def test_targets_that_are_none(target, message):
    with pytest.raises(ValueError, match=message):
        target_weights(KERNELS, target)


@pytest.mark.parametrize(
    ("target", "weights"),
    [
        ("B50f", [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]),
        ("EDGE", [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]),
        ({"SOFT": 0.25, "EDGE": 0.75}, [0.0, 0.0, 0.25, 0.75, 0.0, 1.0]),
    ],
)
def test_with_several_vendors_the_vendor_of_the_target_follows(target, weights):
    assert target_weights(["B30f", "B50f", "SOFT", "EDGE"], target, groups=[2, 2]) == weights


def test_a_blend_of_two_vendors_and_groups_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"a blend must be of the kernels of one vendor, got \{'B30f': 0.5, 'EDGE': 0.5"
    ):
        target_weights(["B30f", "B50f", "SOFT", "EDGE"], {"B30f": 0.5, "EDGE": 0.5}, groups=[2, 2])
    with pytest.raises(
        ValueError, match=r"`groups` must say how many of the 3 domains .*, got \[2, 2\], which sum to 4"
    ):
        target_weights(KERNELS, "B30f", groups=[2, 2])


class OneDirection(torch.nn.Module):
    """Takes the image alone."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 2 * image


def test_a_network_of_one_direction_is_not_told_its_only_target():
    network, image = WithTarget(OneDirection(), target_weights(["B30f"], "B30f")), random_image(2, (4, 5))
    assert_close(network(image), 2 * image, rtol=0, atol=0)
    assert_close(torch.jit.script(network)(image), 2 * image, rtol=0, atol=0)
    assert target_weights(["B30f"], {"B30f": 1.0}) == [1.0]


@pytest.mark.parametrize("target", ["B70f", {"B30f": 0.5, "B70f": 0.5}, 3])
def test_another_target_of_a_network_of_one_direction_is_refused(target):
    with pytest.raises(ValueError, match="`target` must be 'B30f', the only domain that this network translates into"):
        target_weights(["B30f"], target)


SOURCE, PIXEL_MM = "B50f", 0.7
EXPORT_SIZES = [(40, 36), (64, 45)]  # the exported one, and another
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
        return torch.jit.trace(network, image(EXPORT_SIZES[0]))


def onnx(network: WithTarget, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = folder / "network.onnx"
    free = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image(EXPORT_SIZES[0], batch=2),), path, dynamo=True, dynamic_shapes=(free,), verbose=False
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
def test_targets_give_different_outputs_and_an_export_computes_what_torch_does(kind, export, tmp_path):
    outputs = []
    for target in KERNELS if export is not onnx else KERNELS[::2]:  # to export to ONNX takes seconds
        network = bound(kind, target)
        exported = export(network, tmp_path)
        for batch, size in enumerate(EXPORT_SIZES, start=1):
            with torch.no_grad():
                expected, output = network(image(size, batch)), exported(image(size, batch))
            assert_close(output, expected, rtol=0, atol=1e-4)
        outputs.append(output)
    for first, second in combinations(outputs, 2):
        assert (first - second).abs().max() > DIFFERENT


@pytest.mark.parametrize("kind", ["stargan", "physics"])
def test_the_configs_inferer_gives_what_the_network_bound_to_the_volume_gives(kind):
    volume = torch.stack([image(EXPORT_SIZES[0], 2)[i] for i in range(2)], dim=-1)[None]  # (1, 1, X, Y, 2)
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
    for first, second in combinations(outputs, 2):
        assert (first - second).abs().max() > DIFFERENT
