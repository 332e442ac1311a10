"""`python -m common convert_ggcl`: files in, files out, and nothing on an error."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from common.convert_ggcl import convert_ggcl, discriminator_from_released, generator_from_released
from common.networks import (
    SemanticDiscriminator,
    StarGANDiscriminator,
    WithTarget,
    load_definition,
    load_weights,
    target_weights,
)
from tests.helpers.commands import python_m
from tests.helpers.released_ggcl import (
    SequentialDiscriminator,
    SequentialGenerator,
    ggcl_discriminator_state,
    ggcl_generator_state,
)
from tests.helpers.shared import needs_shared, shared

ROOT = Path(__file__).parents[1]
NO_DEFAULT = {"class": "none"}


@pytest.fixture
def files(tmp_path):
    """A released training: generator and discriminator, saved as its code does."""
    torch.manual_seed(0)
    source = tmp_path / "released"
    source.mkdir()
    torch.save(ggcl_generator_state(), source / "400000-G.ckpt")
    torch.save(ggcl_discriminator_state(), source / "400000-D.ckpt")
    return source / "400000-G.ckpt", source / "400000-D.ckpt", tmp_path / "bundle" / "models" / "model.pt"


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_writes_weights_and_definition_that_load_as_any_others(files):
    generator, _, output = files
    assert convert_ggcl(generator, output) == output
    assert listing(output.parent) == ["model.pt", "network.json"]
    network = load_weights(load_definition(output.parents[1], NO_DEFAULT), output)
    document = json.loads((output.parent / "network.json").read_text())
    assert document.pop("arguments") == network.arguments
    assert len(document.pop("definition_checksum")) == 64
    assert document == {
        "class": "common.networks.StarGANGenerator",
        "codec": {"hu": [-1024, 3071]},
        "domains": ["B30f", "B50f", "B70f"],
        "epoch": None,
        "checksum": hashlib.sha256(output.read_bytes()).hexdigest(),
        "ema": False,
        "training_data": {"name": "imported from 400000-G.ckpt"},
    }
    bound = WithTarget(network, target_weights(document["domains"], "B70f"))
    assert bound(torch.zeros(1, 1, 16, 16)).shape == (1, 1, 16, 16)


def test_discriminator_goes_to_a_folder_of_its_own(files):
    """MONAI Label takes each *.pt of the models' folder for a model."""
    generator, discriminator, output = files
    convert_ggcl(generator, output, discriminator)
    folder = output.parent / "discriminator"
    assert listing(output.parent) == [
        "discriminator/discriminator.pt",
        "discriminator/network.json",
        "model.pt",
        "network.json",
    ]
    network = load_weights(load_definition(folder, NO_DEFAULT), folder / "discriminator.pt")
    document = json.loads((folder / "network.json").read_text())
    assert document["class"] == "common.networks.SemanticDiscriminator"
    assert document["checksum"] == hashlib.sha256((folder / "discriminator.pt").read_bytes()).hexdigest()
    assert document["training_data"] == {"name": "imported from 400000-D.ckpt"}
    original = ggcl_discriminator_state()["conv1.weight"]
    assert network.heads.source.weight.shape == original.shape


def test_stargans_own_generator_and_its_domains(files):
    _, _, output = files
    checkpoint = output.parents[2] / "G.ckpt"
    torch.save(SequentialGenerator(domains=2).state_dict(), checkpoint)
    convert_ggcl(checkpoint, output, domains="soft, sharp")
    document = json.loads((output.parent / "network.json").read_text())
    assert document["domains"] == ["soft", "sharp"]
    assert document["arguments"]["upsample"] == "transposed"


def test_two_vendors_have_a_mask_that_the_discriminator_has_not(files):
    _, _, output = files
    generator, discriminator = output.parents[2] / "G.ckpt", output.parents[2] / "D.ckpt"
    torch.save(ggcl_generator_state(domains=8), generator)
    torch.save(ggcl_discriminator_state(domains=6), discriminator)
    names = ["B30f", "B50f", "B70f", "SOFT", "CHEST", "EDGE", "siemens", "ge"]
    convert_ggcl(generator, output, discriminator, domains=names)
    assert json.loads((output.parent / "discriminator" / "network.json").read_text())["arguments"]["num_domains"] == 6


def test_again_replaces_what_is_there(files):
    generator, _, output = files
    convert_ggcl(generator, output)
    torch.save(ggcl_generator_state(width=2), generator)
    convert_ggcl(generator, output)
    network = load_weights(load_definition(output.parents[1], NO_DEFAULT), output)
    assert network.arguments["channels"] == 2
    assert listing(output.parent) == ["model.pt", "network.json"]


def save(content):
    def write(path):
        torch.save(content, path)

    return write


ERRORS = {
    "absent": (lambda path: path.unlink(), FileNotFoundError, "no checkpoint at .*-G.ckpt: give the path of"),
    "empty": (lambda path: path.write_bytes(b""), ValueError, "must be a file of plain tensors"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:2000]),
        ValueError,
        "must be a file of plain tensors",
    ),
    "pickled": (save(nn.Conv2d(1, 1, 1)), ValueError, "Pickled modules are refused, for loading one runs its code"),
    "nested": (save({"state_dict": ggcl_generator_state()}), ValueError, "must hold a flat dict of name to tensor"),
    "nothing": (save({}), ValueError, "must hold a flat dict of name to tensor"),
    "tensor": (save(torch.zeros(3)), ValueError, "must hold a flat dict of name to tensor"),
    "other": (save({"conv.weight": torch.zeros(1)}), ValueError, "cannot be converted: it must hold the generator"),
    "swapped": (save(ggcl_discriminator_state()), ValueError, "give the discriminator's as `discriminator`"),
    "domains": (
        save(ggcl_generator_state(domains=4)),
        ValueError,
        "`domains` must be 4 different names, .*, got 3: B30f",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_generator_that_cannot_be_converted_leaves_no_trace(files, case):
    generator, discriminator, output = files
    spoil, error, message = ERRORS[case]
    spoil(generator)
    with pytest.raises(error, match=message):
        convert_ggcl(generator, output, discriminator)
    assert not output.parents[1].exists()


def test_discriminator_that_cannot_be_converted_leaves_the_old_generator(files):
    generator, discriminator, output = files
    convert_ggcl(generator, output)
    before = output.read_bytes()
    torch.save(ggcl_generator_state(width=2), generator)
    torch.save(ggcl_discriminator_state(domains=5), discriminator)
    message = (
        r"`discriminator` must tell as many domains apart as `generator` .* \(3, or 2 less .*\), got 5: give the two"
    )
    with pytest.raises(ValueError, match=message):
        convert_ggcl(generator, output, discriminator)
    assert output.read_bytes() == before
    assert listing(output.parent) == ["model.pt", "network.json"]


def test_full_disk_leaves_what_was_there(files, monkeypatch):
    generator, discriminator, output = files
    convert_ggcl(generator, output)
    before = {name: (output.parent / name).read_bytes() for name in listing(output.parent)}
    torch.save(ggcl_generator_state(width=2), generator)

    def full_disk(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("common.convert_ggcl.save_definition", full_disk)
    with pytest.raises(OSError, match="no space left"):
        convert_ggcl(generator, output, discriminator)
    assert {name: (output.parent / name).read_bytes() for name in listing(output.parent)} == before
    assert sorted(path.name for path in output.parent.iterdir()) == ["model.pt", "network.json"]


@pytest.mark.parametrize("domains", [["B30f", "B50f"], ["B30f", "B30f", "B70f"], "B30f"])
def test_domains_that_do_not_fit(files, domains):
    generator, _, output = files
    with pytest.raises(ValueError, match=r"`domains` must be 3 different names, one for each entry of the generator's"):
        convert_ggcl(generator, output, domains=domains)
    assert not output.parent.exists()


def test_output_must_be_a_weights_file(files):
    generator, _, output = files
    with pytest.raises(ValueError, match=r"`output` must be a file that ends in \.pt, .*, got .*models\."):
        convert_ggcl(generator, output.parent)


def command(*arguments):
    return python_m("common", ["convert_ggcl", *arguments])


def test_command_line(files):
    generator, discriminator, output = files
    options = ["--discriminator", discriminator, "--domains", "soft,medium,sharp"]
    done = command("--generator", generator, "--output", output, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Weights: {output}"
    assert json.loads((output.parent / "network.json").read_text())["domains"] == ["soft", "medium", "sharp"]
    refused = command("--generator", discriminator, "--output", output)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in refused.stderr


def test_help_says_what_the_command_takes():
    done = command("--help")
    assert done.returncode == 0
    text = done.stdout + done.stderr
    assert all(word in text for word in ("GENERATOR", "OUTPUT", "discriminator", "domains", "network.json"))


def test_converted_weights_are_the_released_ones(files):
    generator, _, output = files
    convert_ggcl(generator, output)
    assert_close(torch.load(output, weights_only=True)["head.weight"], ggcl_state(generator)["out.0.weight"])


def ggcl_state(path):
    return torch.load(path, weights_only=True)


FIXTURE = shared("fixtures", "ggcl_reference")
released = needs_shared("fixtures", "ggcl_reference", "golden.npz")


def checkpoint(name):
    return torch.load(FIXTURE / name, weights_only=True)


def golden():
    """Inputs and outputs computed by the released network definitions; the features are average-pooled by 2."""
    return {name: torch.from_numpy(values) for name, values in np.load(FIXTURE / "golden.npz").items()}


@released
@pytest.mark.parametrize("training", [True, False])
def test_released_generator_is_reproduced(training):
    network, values = generator_from_released(checkpoint("400000-G.ckpt")).train(training), golden()
    output, feature = network.features(values["image"], values["target"])
    assert_close(output, values["translated"], rtol=0, atol=1e-5)
    assert_close(F.avg_pool2d(feature, 2), values["generator_feature"], rtol=0, atol=1e-5)


@released
def test_released_discriminator_is_reproduced():
    network, values = discriminator_from_released(checkpoint("400000-D.ckpt")).eval(), golden()
    source_map, domain_logits, semantic_map = network.features(values["image"])
    # Tighter than 1e-5 where the values themselves are about 1e-3.
    assert_close(source_map, values["source_map"], rtol=1e-4, atol=1e-7)
    assert_close(domain_logits, values["domain_logits"], rtol=1e-4, atol=1e-7)
    assert_close(F.avg_pool2d(semantic_map, 2), values["discriminator_feature"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("width", "domains", "blocks", "channels"), [(4, 3, 2, 1), (2, 8, 0, 1), (3, 5, 6, 3)])
def test_stargans_sequential_generator(width, domains, blocks, channels):
    torch.manual_seed(0)
    reference = SequentialGenerator(width, domains, blocks, channels).train()
    network = generator_from_released(reference.state_dict())
    assert network.arguments == {
        "num_domains": domains,
        "in_channels": channels,
        "out_channels": channels,
        "channels": width,
        "num_res_blocks": blocks,
        "upsample": "transposed",
    }
    image, target = torch.randn(2, channels, 16, 12), torch.eye(domains)[:2]
    assert_close(network(image, target), reference(image, target))


@pytest.mark.parametrize(("size", "width", "domains", "layers"), [(32, 4, 3, 3), (16, 2, 6, 4), (8, 3, 1, 1)])
def test_stargans_sequential_discriminator(size, width, domains, layers):
    torch.manual_seed(0)
    reference = SequentialDiscriminator(size, width, domains, layers)
    network = discriminator_from_released(reference.state_dict())
    assert isinstance(network, StarGANDiscriminator)
    sizes = {"image_size": size, "num_domains": domains, "in_channels": 1, "channels": width, "num_layers": layers}
    assert network.arguments == sizes
    image = torch.randn(2, 1, size, size)
    assert_close(network(image), reference(image))


@pytest.mark.parametrize(("width", "domains", "blocks"), [(4, 3, 2), (2, 8, 0), (3, 1, 11)])
def test_sizes_of_a_ggcl_generator(width, domains, blocks):
    network = generator_from_released(ggcl_generator_state(width, domains, blocks))
    assert network.arguments == {
        "num_domains": domains,
        "in_channels": 1,
        "out_channels": 1,
        "channels": width,
        "num_res_blocks": blocks,
        "upsample": "pixelshuffle",
    }


@pytest.mark.parametrize(("size", "width", "domains", "layers"), [(16, 2, 3, 4), (32, 3, 6, 2), (128, 1, 1, 7)])
def test_sizes_of_a_ggcl_discriminator(size, width, domains, layers):
    network = discriminator_from_released(ggcl_discriminator_state(size, width, domains, layers))
    assert isinstance(network, SemanticDiscriminator)
    sizes = {"image_size": size, "num_domains": domains, "in_channels": 1, "channels": width, "num_layers": layers}
    assert network.arguments == sizes


def test_each_tensor_is_taken_over():
    """Whatever its name: the same values, counted over the file and over the network."""
    for state, convert in (
        (ggcl_generator_state(), generator_from_released),
        (ggcl_discriminator_state(), discriminator_from_released),
    ):
        used = [v for name, v in state.items() if "running" not in name and "tracked" not in name]
        converted = convert(state).state_dict()
        assert len(converted) == len(used)
        assert sorted(v.double().sum().item() for v in used) == sorted(
            v.double().sum().item() for v in converted.values()
        )


def test_old_spectral_norm_gives_the_same_weights():
    """sigma is u^T W v, with the vectors of the file; the power iteration does not run."""
    torch.manual_seed(0)
    state = ggcl_discriminator_state()
    network = discriminator_from_released(state).eval()
    weight, u, v = (state[f"down2.0.weight{suffix}"] for suffix in ("_orig", "_u", "_v"))
    assert_close(network.downs[2][0].weight, weight / (u @ weight.flatten(1) @ v))


@pytest.mark.parametrize(
    ("state", "convert"),
    [
        (ggcl_generator_state(), generator_from_released),
        (SequentialGenerator().state_dict(), generator_from_released),
        (ggcl_discriminator_state(), discriminator_from_released),
        (SequentialDiscriminator().state_dict(), discriminator_from_released),
    ],
)
def test_parallel_prefix_and_the_unused_head_are_dropped(state, convert):
    expected = convert(state).state_dict()
    unused = {"out_feature.weight": torch.zeros(1, 8, 1, 1)}
    again = convert({f"module.{name}": tensor for name, tensor in {**state, **unused}.items()}).state_dict()
    assert_close(dict(again), dict(expected), rtol=0, atol=0)


def test_the_other_role_is_refused():
    with pytest.raises(
        ValueError, match=r"must hold the generator of .*; give the discriminator's as `discriminator`\."
    ):
        generator_from_released(ggcl_discriminator_state())
    with pytest.raises(ValueError, match=r"must hold the discriminator of .*; give the generator's as `generator`\."):
        discriminator_from_released(ggcl_generator_state())


def test_missing_unexpected_and_misshapen_tensors_are_named():
    state = ggcl_generator_state()
    missing = {name: tensor for name, tensor in state.items() if name != "down2.1.bias"}
    with pytest.raises(ValueError, match=r"not those of one generator of the released code: .*downs\.1\.1\.bias"):
        generator_from_released(missing)
    with pytest.raises(ValueError, match="attention"):
        generator_from_released({**state, "attention.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"size mismatch for downs\.0\.0\.weight"):
        generator_from_released({**state, "down1.0.weight": torch.zeros(9, 4, 4, 4)})


def test_sizes_that_no_network_has_are_refused():
    state = {**ggcl_generator_state(), "init.0.weight": torch.zeros(4, 1, 7, 7)}
    with pytest.raises(ValueError, match=r"sizes that no StarGANGenerator has: `num_domains` must be >= 1, got 0\."):
        generator_from_released(state)
