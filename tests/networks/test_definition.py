from __future__ import annotations

import copy
import importlib
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.utils import copy_model_state
from torch import nn
from torch.testing import assert_close

import common
from common.files import checksum
from common.networks import (
    CompactGenerator,
    DCGANDiscriminator,
    NECGenerator,
    PatchDiscriminatorPyramid,
    PatchFeatureMLP,
    ResidualGenerator,
    SPADEGenerator,
    StarGANGenerator,
    WithTarget,
    changed_by_hand,
    definition_path,
    input_channels,
    load_definition,
    read_definition,
    record_arguments,
    save_definition,
)

PAPER = {"class": "common.networks.NECGenerator", "arguments": {"channels": [4, 8], "num_res_units": 1}}

NETWORKS = {
    "NECGenerator": NECGenerator(3, channels=(2, 4), num_res_units=1),
    "CompactGenerator": CompactGenerator(2, 3, channels=(4, 8), num_groups=2),
    "PatchDiscriminatorPyramid": PatchDiscriminatorPyramid(channels=2, num_layers=1, norm=("GROUP", {"num_groups": 1})),
    "PatchFeatureMLP": PatchFeatureMLP((4, 8), num_patches=3),
    "SPADEGenerator": SPADEGenerator(channels=(8, 4), num_groups=2, spade_channels=2, residual=True),
    "DCGANDiscriminator": DCGANDiscriminator(channels=(4,), num_groups=2, num_classes=1),
}


class Recorded(nn.Module):
    @record_arguments
    def __init__(self, width, depth=3, *, sizes=(1, 2), norm=("group", {"num_groups": 2}), **more):
        super().__init__()
        if width < 0:
            raise ValueError("`width` must be >= 0.")
        if isinstance(sizes, list):
            sizes.append(99)


class Derived(Recorded):
    @record_arguments
    def __init__(self, scale=2.0):
        super().__init__(7)


def write(folder, text):
    path = folder / "models" / "network.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_arguments_are_recorded_with_defaults_as_json():
    network = Recorded(5, sizes=[3], dropout=0.5)
    norm = ["group", {"num_groups": 2}]
    assert network.arguments == {"width": 5, "depth": 3, "sizes": [3], "norm": norm, "dropout": 0.5}
    assert Recorded(depth=1, width=2).arguments["depth"] == 1
    assert json.loads(json.dumps(network.arguments)) == network.arguments


def test_outermost_constructor_is_recorded():
    assert Derived().arguments == {"scale": 2.0}


def test_recording_keeps_signature_errors_and_copies():
    assert Recorded.__init__.__name__ == "__init__"
    with pytest.raises(TypeError, match="missing a required argument: 'width'"):
        Recorded()
    with pytest.raises(ValueError, match="`width` must be >= 0"):
        Recorded(-1)
    assert copy.deepcopy(Recorded(5)).arguments == Recorded(5).arguments


@pytest.mark.parametrize("value", [torch.zeros(1), math.nan, math.inf, {1: 2}, {3}, nn.ReLU])
def test_arguments_that_json_cannot_hold(value):
    with pytest.raises(TypeError, match=r"argument `depth` must be a JSON value .*, got "):
        Recorded(1, value)


def test_unnamed_arguments_cannot_be_recorded():
    with pytest.raises(TypeError, match=r"must take named arguments only to be recorded, but it takes \*args\."):

        @record_arguments
        def __init__(self, *channels):
            pass


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name, tmp_path):
    network = NETWORKS[name]
    save_definition(definition_path(tmp_path), network, codec={"range": (-1, 1)}, spacing_mm=(1.0, 0.5))
    document = json.loads((tmp_path / "models" / "network.json").read_text())
    assert document["class"] == f"common.networks.{name}"
    assert document["codec"] == {"range": [-1, 1]}
    assert read_definition(tmp_path, PAPER) == document

    again = load_definition(tmp_path, PAPER)
    assert type(again) is type(network)
    assert again.arguments == network.arguments
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
    again.load_state_dict(network.state_dict())
    if hasattr(network, "spatial_dims"):
        image = torch.randn(1, network.arguments["in_channels"], *[24] * network.spatial_dims)
        assert_close(again(image), network(image))


@pytest.mark.parametrize("name", ["NECGenerator", "common.networks.NECGenerator"])
def test_default_where_there_is_no_file(tmp_path, name):
    default = {**PAPER, "class": name, "codec": {"range": [0, 1]}}
    network = load_definition(tmp_path, default)
    assert isinstance(network, NECGenerator)
    assert network.encode_channels == [4, 8]
    document = read_definition(tmp_path, default)
    assert document == default
    document["codec"]["range"].append(2)
    assert default["codec"] == {"range": [0, 1]}  # a copy was handed out


@pytest.mark.parametrize("load", [load_definition, read_definition])
def test_without_a_default_a_missing_file_is_no_network(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=r"no network at .*network\.json .*--use_paper_network True"):
        load(tmp_path)


def loaded_by_monai(network, weights):
    """The end of `monai.bundle.load`, which copies what fits, under the name that the network looks for."""
    source = "def load(network, weights):\n    copy_model_state(dst=network, src=weights)\n    return network\n"
    space = {"__name__": "monai.bundle.scripts", "copy_model_state": copy_model_state}
    exec(compile(source, "scripts.py", "exec"), space)
    return space["load"](network, weights)


def test_monai_cannot_load_a_part_of_other_weights():
    network, same, other = (CompactGenerator(channels=channels) for channels in ([8, 16], [8, 16], [16, 16]))
    loaded = loaded_by_monai(network, same.state_dict())
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in same.state_dict().items())
    with pytest.raises(ValueError, match=r'of CompactGenerator .* would stay untrained.*workflow_type="inference"'):
        loaded_by_monai(network, other.state_dict())
    with pytest.raises(ValueError, match="would stay untrained"):
        loaded_by_monai(WithTarget(StarGANGenerator(3, channels=4, num_res_blocks=1), [1.0, 0, 0]), other.state_dict())
    copy_model_state(dst=network, src=other.state_dict())  # whoever transfers weights on purpose


def test_models_folder_itself_may_be_named(tmp_path):
    save_definition(tmp_path / "network.json", NECGenerator(channels=(2, 4), num_res_units=0))
    assert load_definition(tmp_path, PAPER).arguments["channels"] == [2, 4]
    assert load_definition(str(tmp_path), PAPER).arguments["channels"] == [2, 4]


@pytest.mark.parametrize(
    "name", ["torch.nn.Linear", "os.system", "common.networks.nec.NECGenerator", "common.networks.load_weights", "UNet"]
)
def test_other_classes_are_refused(tmp_path, name):
    path = write(tmp_path, {"class": name, "arguments": {}})
    with pytest.raises(ValueError, match='"class" in ') as caught:
        load_definition(tmp_path, PAPER)
    message = str(caught.value)
    assert str(path) in message
    allowed = message.split("must be one of ")[1].split(", ")
    assert {"common.networks.CompactGenerator", "common.networks.NECGenerator"} < set(allowed)
    assert message.endswith(f"got {name!r}.")


def test_refused_default_is_named():
    with pytest.raises(ValueError, match='"class" in `default` must be one of '):
        load_definition("no/such/bundle", {"class": "UNet"})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"width": 3}, "unexpected keyword argument 'width'"),
        ({"spatial_dims": 7}, r"`spatial_dims` must be 2 or 3, got 7\."),
        ([1], "must be a mapping"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, arguments, reason):
    path = write(tmp_path, {"class": "common.networks.NECGenerator", "arguments": arguments})
    with pytest.raises(ValueError, match=reason) as caught:
        load_definition(tmp_path, PAPER)
    assert str(caught.value).startswith(f'"arguments" in {path} must be those of common.networks.NECGenerator, but: ')


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_file_that_is_no_json(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"must be JSON, got .*; restore it together with model\.pt") as caught:
        read_definition(tmp_path, PAPER)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("document", [[], {}, {"class": 3}, "text"])
def test_file_that_is_no_definition(tmp_path, document):
    write(tmp_path, json.dumps(document))
    with pytest.raises(ValueError, match=r'must (be an object with a "class"|hold a JSON object), got '):
        load_definition(tmp_path, PAPER)


def test_saving_other_networks_or_reserved_facts_is_refused(tmp_path):
    path = tmp_path / "network.json"
    with pytest.raises(TypeError, match=r"`network` must be one of common.* got torch\.nn\.modules\.linear\.Linear\."):
        save_definition(path, nn.Linear(1, 1))
    impostor = type("NECGenerator", (NECGenerator,), {"__module__": "elsewhere"})(channels=(2, 4), num_res_units=0)
    with pytest.raises(TypeError, match=r"got elsewhere\.NECGenerator\."):
        save_definition(path, impostor)
    network = CompactGenerator(channels=(8,))
    with pytest.raises(ValueError, match=r"`facts` must not be named \['arguments'\]"):
        save_definition(path, network, arguments={})
    with pytest.raises(TypeError, match="fact `codec` must be a JSON value"):
        save_definition(path, network, codec={"low": math.nan})
    assert not path.exists()


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "network.json"
    save_definition(path, CompactGenerator(channels=(8,)))
    before = path.read_text()

    def full_disk(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        with pytest.raises(OSError, match="no space left"):
            save_definition(path, CompactGenerator(channels=(16,)))
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_works_under_another_package_name(tmp_path, monkeypatch):
    """A release carries a copy of the package under a name of its own, and reads the same files."""
    shutil.copytree(Path(common.__file__).parent, tmp_path / "lib" / "copied")
    save_definition(tmp_path / "models" / "network.json", CompactGenerator(channels=(8, 16)))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    try:
        copied = importlib.import_module("copied.networks")
        network = copied.load_definition(tmp_path, PAPER)
        assert type(network).__module__ == "copied.networks.compact"
        assert network.arguments["channels"] == [8, 16]
        copied.save_definition(tmp_path / "again.json", network)
        again, first = (json.loads((tmp_path / name).read_text()) for name in ("again.json", "models/network.json"))
        assert again == first
    finally:
        for name in [name for name in sys.modules if name.startswith("copied")]:
            del sys.modules[name]


def test_a_network_may_be_deployed_with_other_arguments_that_its_weights_fit(tmp_path):
    trained = CompactGenerator(channels=(4,), num_res_units=0, num_groups=0)
    save_definition(tmp_path / "network.json", trained, changes={"margin": 8})
    deployed = load_definition(tmp_path, PAPER)
    assert deployed.arguments == {**trained.arguments, "margin": 8}
    deployed.load_state_dict(trained.state_dict())


def written(folder, **facts):
    """A small network's definition and weights, as a training writes them."""
    network = CompactGenerator(2, 1, channels=(4, 8), num_groups=4)
    torch.save(network.state_dict(), folder / "model.pt")
    facts = {"checksum": checksum(folder / "model.pt"), "codec": {"hu": [-100, 200]}, "spacing_mm": [1.0, 1.0], **facts}
    save_definition(folder / "network.json", network, **facts)
    return folder / "network.json"


def edited(path, **changes):
    document = json.loads(path.read_text())
    document.update(changes)
    path.write_text(json.dumps(document))


def test_what_was_changed_by_hand_is_told(tmp_path):
    path = written(tmp_path)
    assert changed_by_hand(tmp_path) == []
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))  # other lines, the same content
    assert changed_by_hand(tmp_path) == []
    edited(path, codec={"hu": [-100, 250]})
    assert [text.split(" was")[0] for text in changed_by_hand(tmp_path)] == ["network.json"]
    written(tmp_path)
    state = torch.load(tmp_path / "model.pt")
    torch.save({name: 1.5 * value for name, value in state.items()}, tmp_path / "model.pt")
    assert [text.split(" is")[0] for text in changed_by_hand(tmp_path)] == ["model.pt"]


def test_a_definition_without_checksums_is_an_older_one(tmp_path):
    path = written(tmp_path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({key: document[key] for key in ("class", "arguments")}))
    assert changed_by_hand(tmp_path) == []
    assert changed_by_hand(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing_mm": [1e-30, 1.0]}, r'"spacing_mm" in .* must be sides of 0.001 to 100 mm \(-1: any\), got \[1e-30'),
        ({"spacing_mm": "1"}, r'"spacing_mm" in .* must be sides'),
        (
            {"codec": {"hu": [200, -100]}},
            r'"codec" in .* a lower and a higher number within .* as "hu", got \[200, -100\]',
        ),
        ({"codec": {"reference": [0]}}, r'as "reference", got \[0\]'),
        ({"codec": {"percentiles": [1, 101]}}, r'within \[0, 100\] as "percentiles"'),
    ],
)
def test_scales_that_no_image_has_are_refused(tmp_path, changes, message):
    edited(written(tmp_path), **changes)
    with pytest.raises(ValueError, match=message):
        read_definition(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"channels": [10**9]},
            r"numbers and lists of at most 4096, got 1e\+09: a network of that size fits no memory",
        ),
        ({"channels": [8] * 5000}, r"lists of at most 4096, got 5000"),
        ({"num_res_units": -(10**9)}, r"at most 4096, got 1e\+09"),
        ({"channels": [4096] * 40}, r"a network of \d+(\.\d+)? billion parameters"),
    ],
)
def test_a_network_that_fits_no_memory_is_refused_before_it_is_built(tmp_path, arguments, message):
    path = written(tmp_path)
    document = json.loads(path.read_text())
    edited(path, arguments={**document["arguments"], **arguments})
    with pytest.raises(ValueError, match=message):
        load_definition(tmp_path)


def test_a_file_that_is_no_definition_is_refused_unread(tmp_path):
    path = written(tmp_path)
    with open(path, "r+b") as file:
        file.truncate(500_000_000)  # sparse
    with pytest.raises(ValueError, match=r"must be a file of at most 1 MB, it has 500"):
        load_definition(tmp_path)
    path.write_text('{"class": ' + "[" * 200_000 + "]" * 200_000 + "}")
    with pytest.raises(ValueError, match=r"network.json` must be JSON, got"):
        load_definition(tmp_path)


@pytest.mark.parametrize(
    "models", sorted((Path(__file__).parents[2] / "bundles").glob("*/models")), ids=lambda p: p.parent.name
)
def test_the_shipped_definitions_are_as_they_were_written(models):
    assert changed_by_hand(models) == []


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({}, 1),
        ({"in_channels": 3}, 3),
        ({"base": "identity", "arguments": {"in_channels": 3, "out_channels": 3, "channels": [4, 4, 8, 8, 8]}}, 3),
    ],
)
def test_the_channels_of_an_image_are_those_that_the_network_takes(options, channels):
    network = ResidualGenerator(2, **{"arguments": {"channels": [4, 4, 8, 8, 8]}, **options})
    assert input_channels(network) == channels
    assert network(torch.zeros(1, channels, 16, 16)).shape[2:] == (16, 16)
