"""Inference and training as the app calls them, without its server.

What a client may set, and how it reaches a config.
"""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import nibabel as nib
import numpy as np
import pytest

from common.deploy.monailabel import training
from common.deploy.monailabel.bundles import find_bundles, make_app
from common.deploy.monailabel.limits import Limits
from common.deploy.monailabel.running import (
    check_sizes,
    hyper_parameters,
    inference_parameters,
    overrides,
    plain,
    reason,
    translate,
)
from common.deploy.monailabel.training import plan, stages, train, training_parameters
from common.networks import target_weights

BUNDLES = Path(__file__).parents[3] / "bundles"


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """A lung CT of 24 x 24 x 4 pixels of 0.625 mm: noise, which is enough for sizes."""
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    values = np.random.default_rng(0).integers(-1000, 100, (24, 24, 4)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([-0.625, -0.625, 1.0, 1.0])), path)
    return path


def test_the_choices_are_the_networks_domains():
    kernels = inference_parameters(BUNDLES / "ggcl")
    assert kernels["target"] == ["B30f", "B50f", "B70f"]
    assert kernels["source"] == ["auto", "B30f", "B50f", "B70f"]
    assert "target" not in inference_parameters(BUNDLES / "nec_t1t2")
    assert inference_parameters(BUNDLES / "sr_cyclegan")["slab"] is None


def test_a_network_of_one_direction_offers_its_only_target(tmp_path):
    (tmp_path / "configs").symlink_to(BUNDLES / "ggcl" / "configs")
    (tmp_path / "models").mkdir()
    facts = {"domains": ["B70f", "B30f"], "targets": ["B30f"]}
    (tmp_path / "models" / "network.json").write_text(json.dumps(facts))
    choices = inference_parameters(tmp_path)
    assert choices["target"] == ["B30f"]
    assert choices["source"] == ["auto", "B70f", "B30f"]


def test_an_output_too_large_to_send_is_refused_with_the_ways_out(scan, tmp_path):
    """192 x 192 x 4 voxels of 2 bytes."""
    with pytest.raises(ValueError, match=r"192 x 192 x 4 voxels, 0\.000295 GB.*at most 0\.0002 GB.*`slab`.*`region`"):
        translate(BUNDLES / "sr_cyclegan", scan, tmp_path / "out", {"region": "all"}, max_output_gb=0.0002)
    assert not (tmp_path / "out").exists()
    slab = {"region": "all", "slab": [1, 3]}
    done = translate(BUNDLES / "sr_cyclegan", scan, tmp_path / "out", slab, max_output_gb=0.0002)
    assert nib.load(done.path).shape == (192, 192, 2)
    assert done.facts["target"] == "micro"
    assert done.facts["notice"].startswith("RESEARCH USE ONLY")


@pytest.mark.parametrize("wanted", [True, "map"])
def test_the_answer_tells_how_far_the_output_may_be_from_the_truth(scan, tmp_path, wanted):
    given = {"target": "B70f", "source": "B30f", "uncertainty": wanted}
    made = translate(BUNDLES / "ggcl", scan, tmp_path / "out", given, max_output_gb=1)
    told = made.facts["uncertainty"]
    assert told["unit"] == "HU"
    assert "nothing is promised" in told["promise"]["sentence"]
    half_widths = nib.load(made.half_widths)
    assert half_widths.shape == nib.load(made.path).shape == (24, 24, 4)
    assert np.nanmean(half_widths.get_fdata()) == pytest.approx(told["mean_half_width"], rel=1e-3)
    json.dumps(made.facts)


def test_without_being_asked_nothing_is_said_of_it(scan, tmp_path):
    made = translate(BUNDLES / "ggcl", scan, tmp_path / "out", {"target": "B70f", "source": "B30f"}, max_output_gb=1)
    assert "uncertainty" not in made.facts
    assert made.half_widths is None
    assert inference_parameters(BUNDLES / "ggcl")["uncertainty"] is False


@pytest.mark.parametrize("given", ["yes", 2, "$print()"])
def test_an_unknown_wish_for_the_uncertainty_is_refused(given):
    with pytest.raises(ValueError, match=r"`uncertainty` must be false, true or 'map', got"):
        check_sizes({"uncertainty": given}, Limits())


def test_a_training_runs_its_stages_in_order():
    named = [[path.stem for path in files] for files in stages(BUNDLES / "nect2cect", [])]
    assert named == [["train", "train_classifier"], ["train", "train_contrast_removal"], ["train"]]
    assert [[path.stem for path in files] for files in stages(BUNDLES / "ggcl", [])] == [["train"]]
    assert training_parameters(BUNDLES / "ggcl")["max_epochs"] == 400


@pytest.fixture
def copied(tmp_path) -> Path:
    return make_app(tmp_path / "app", BUNDLES / "nec_t1t2") / "bundles" / "nec_t1t2"


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """What is run instead of running it."""
    found: list[list[str]] = []

    def run(command: list[str]) -> int:
        found.append(command)
        return 0

    monkeypatch.setattr(training, "run_child", run)
    return found


def test_a_request_becomes_the_documented_command(copied, commands, tmp_path):
    (tmp_path / "datalist.json").write_text("{}")
    request_ = {"model": "nec_t1t2", "max_epochs": 3, "overlays": "official", "bundle_path": "/dev/null/nothing"}
    train(copied, plan(copied, tmp_path, {}, request_))
    ((_, *command),) = commands
    assert command[:4] == ["-m", "monai.bundle", "run", "training"]
    request = copied / "output" / "label" / "request.json"
    configs = copied / "configs"
    assert command[-1] == str([str(configs / "train.yaml"), str(configs / "official.yaml"), str(request)])
    assert json.loads(request.read_text()) == {
        "max_epochs": 3,
        "bundle_root": str(copied),
        "dataset_dir": str(tmp_path),
    }


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"max_epoch": 3}, "Did you mean 'max_epochs'?"),
        ({"max_epochs": "$1"}, "`max_epochs` must hold names and numbers"),
        ({"max_epochs": "many"}, "`max_epochs` must be a whole number >= 0, such as"),
        ({"batch_size": 0}, "`batch_size` must be a whole number >= 1"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number"),
        ({"overlays": ["nothing"]}, "`overlays` must name files in nec_t1t2/configs"),
        ({"overlays": ["../../../main"]}, "`overlays` must name files in nec_t1t2/configs"),
        ({"overlays": 3}, "`overlays` must name files in nec_t1t2/configs"),
        ({"overlays": ["/etc/passwd"]}, "`overlays` must name files in nec_t1t2/configs"),
        ({"overlays": ["a" * 300]}, "`overlays` must name files in nec_t1t2/configs"),
        ({"max_epochs": [[[[[[[[[3]]]]]]]]]}, "`max_epochs` must be nested at most 8 deep"),
        ({"overlays": ["demo"]}, "The overlay 'demo' sets ['dataset_dir', "),
        ({}, "images of 'T1' of at least two patients"),
    ],
)
def test_a_training_that_cannot_start_is_refused_with_its_reason(copied, tmp_path, request_, words):
    with pytest.raises(ValueError, match=r".") as error:
        plan(copied, tmp_path, {}, request_)
    assert words in str(error.value)
    assert words in (reason(error.value) or "")  # the client's fault: status 400
    assert not (copied / "output").exists()


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in BUNDLES.glob("*/configs")))
def test_what_the_server_adds_to_a_request_is_no_parameter_of_a_training(bundle):
    """A name that looks like a parameter would be refused."""
    added = {"model": bundle, "bundle_path": "/dev/null/nothing", "local_rank": 0, "gpus": "all"}
    assert overrides(added, training_parameters(BUNDLES / bundle), model=bundle) == {}


def test_an_app_holds_copies_of_bundles_and_serves_those_that_are_asked_for(copied):
    app = copied.parents[1]
    make_app(app, BUNDLES / "ggcl")
    assert [root.name for root in find_bundles(copied.parent)] == ["ggcl", "nec_t1t2"]
    assert [root.name for root in find_bundles(copied.parent, "nec_t1t2")] == ["nec_t1t2"]
    assert (app / "main.py").is_file()
    with pytest.raises(ValueError, match=r"has the bundles \['ggcl', 'nec_t1t2'\], not \['unet'\]"):
        find_bundles(copied.parent, "ggcl, unet")
    with pytest.raises(FileExistsError, match="The app has a bundle 'ggcl' already"):
        make_app(app, BUNDLES / "ggcl")
    with pytest.raises(ValueError, match=r"is not a bundle: it needs inference\.yaml, train\.yaml"):
        make_app(app, app)
    shutil.rmtree(copied.parent)
    with pytest.raises(ValueError, match=r"has the bundles \[\], not any"):
        find_bundles(copied.parent)


KERNEL = ["target", "source", "batch_size"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"target": "B70f"}, {"target": "B70f"}),
        ({"target": ["B50f", "B30f"]}, {"target": "B50f"}),  # a client that sends all choices: the first
        ({"target": {"B30f": 0.5, "B70f": 0.5}}, {"target": {"B30f": 0.5, "B70f": 0.5}}),
        ({"target": "{B30f: 0.5, B70f: 0.5}"}, {"target": {"B30f": 0.5, "B70f": 0.5}}),  # a client's text field
        ({"source": "auto", "target": None}, {}),
        ({"model": "ggcl", "image": "a", "result_dtype": "uint8", "result_extension": ".nrrd"}, {}),  # Slicer's
        ({"batch_size": 2}, {"batch_size": 2}),
    ],
)
def test_parameters_of_an_inference_become_overrides_and_all_else_stays_out(given, expected):
    assert overrides(given, KERNEL, model="ggcl") == expected


def test_a_slab_is_read_as_list_or_text():
    assert overrides({"slab": [3, 5]}, ["slab"], model="sr") == overrides({"slab": "[3, 5]"}, ["slab"], model="sr")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tarqet": "B30f"}, "'tarqet' is not a parameter of 'ggcl'. Did you mean 'target'?"),
        ({"region": "all"}, "'region' is not a parameter of 'ggcl'. It has: target, source, batch_size."),
        ({"target": "$__import__('os').system('true')"}, "`target` must hold names and numbers"),
        ({"target": "@domains"}, "`target` must hold names and numbers"),
        ({"target": "%run"}, "`target` must hold names and numbers"),
        ({"target": {"$print()": 1.0}}, "`target` must hold names and numbers"),
        ({"target": "{_target_: os.system}"}, "`target` must hold names and numbers"),
        ({"target": "{B30f"}, "`target` must be a name, a list or a mapping"),
        ({"target": "{a: &a [B30f], b: [*a, *a]}"}, "`target` must not have aliases (*a)"),
        ({"target": "[" * 20_000}, "`target` must be nested at most 8 deep"),
        ({"target": {"B30f": [[[[[[[[1]]]]]]]]}}, "`target` must be nested at most 8 deep"),
        ({"target": dict.fromkeys(map(str, range(600)), 1)}, "`target` must have at most 1000 values"),
        ({"target": f"[{'B30f, ' * 2000}]"}, "`target` must have at most 1000 values"),
        ({"target": f"[{'B' * 70_000}]"}, "`target` must have at most 64 kB, got 70 kB"),
    ],
)
def test_what_would_be_lost_or_evaluated_is_refused(given, words):
    with pytest.raises(ValueError, match=r".") as error:
        overrides(given, KERNEL, model="ggcl")
    assert words in str(error.value)


def test_null_is_a_value_in_training():
    assert overrides({"mask_key": None}, ["mask_key"], model="sr") == {"mask_key": None}


@pytest.mark.parametrize("value", [1, 0.5, True, None, "B30f", [1, [2]], {"a": 1}, "a/b-c+d.e"])
def test_plain_data_pass_unchanged(value):
    assert plain("x", value) == value


def test_hyper_parameters_are_the_plain_ids_of_a_training():
    config = {
        "imports": ["$import torch"],
        "max_epochs": 400,
        "betas": [0.5, 0.999],
        "ema_decay": None,
        "bundle_root": ".",
        "resume": True,
        "network": "$@network_def.to(@device)",
        "network_def": {"_target_": "torch.nn.Identity"},
        "lr_schedulers": [],
        "make_data": None,
        "training": "%run",
    }
    assert list(hyper_parameters(config)) == ["max_epochs", "betas", "ema_decay", "resume"]


def caught(cause: Exception | None, message: str) -> Exception:
    """As components wrap an error."""
    try:
        raise RuntimeError(message) from cause
    except RuntimeError as error:
        return error


def ours() -> Exception:
    with pytest.raises(ValueError, match="must name one of the domains") as error:
        target_weights(["B30f", "B70f"], "B40f")
    return error.value


def test_an_error_of_ours_gives_its_own_message_however_it_is_wrapped():
    assert "must name one of the domains B30f, B70f, got 'B40f'" in reason(caught(caught(ours(), "a"), "b"))


def test_an_image_that_was_cut_off_is_the_clients():
    assert reason(caught(EOFError("ended early"), "a")) == "The image cannot be read (ended early): send it again."


@pytest.mark.parametrize("error", [ValueError("of a library"), KeyError("x"), caught(None, "a"), MemoryError()])
def test_what_we_did_not_foresee_is_the_servers(error):
    assert reason(error) is None


def test_an_alias_costs_nothing_however_much_it_stands_for():
    """Ten levels of ten copies each: 10^10 values in 300 bytes."""
    levels = ", ".join(f"&l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 11))
    with pytest.raises(ValueError, match=r"must not have aliases \(\*l0\)"):
        overrides({"target": f"[&l0 B30f, {levels}]"}, KERNEL, model="ggcl")


@pytest.mark.parametrize(("name", "most"), [("batch_size", 64), ("tile_size", 512)])
def test_a_size_of_memory_has_a_limit(name, most):
    check_sizes({name: most}, Limits())
    for value in (most + 1, 10**18, -1, 1.5, True, [1]):
        with pytest.raises(ValueError, match=rf"`{name}` must be an integer from . to {most}, got"):
            check_sizes({name: value}, Limits())


def test_warnings_of_one_image_are_not_in_the_answer_of_another(tmp_path):
    """Two requests at once: each warns when both have begun, and ends when both have warned."""
    (tmp_path / "configs").mkdir()
    shutil.copy(BUNDLES / "nec_t1t2" / "configs" / "metadata.json", tmp_path / "configs")
    config = {"target": "T2", "models_dir": str(BUNDLES / "nec_t1t2" / "models")}
    run = {"run": "$@step(@dataset_dir, @output_dir)"}
    (tmp_path / "configs" / "inference.yaml").write_text(json.dumps({**config, **run}))
    both = Barrier(2, timeout=60)

    def step(image: str, output_dir: str) -> None:
        both.wait()
        logging.getLogger("common.transforms").warning("%s is odd", Path(image).name)
        both.wait()
        Path(output_dir).mkdir()
        Path(output_dir, "a.nii").touch()

    def answer(name: str) -> list[str]:
        image, output_dir = tmp_path / f"{name}.nii", tmp_path / name
        return translate(tmp_path, image, output_dir, {"step": step}, max_output_gb=1).facts["warnings"]

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(answer, ["one", "two"])) == [["one.nii is odd"], ["two.nii is odd"]]
