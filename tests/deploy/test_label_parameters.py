"""What a client may set, and how it reaches a config."""

from __future__ import annotations

import pytest

from common.deploy.monailabel.running import hyper_parameters, overrides, plain

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
        ({"tarqet": "B30f"}, "'tarqet' is no parameter of 'ggcl'. Did you mean 'target'?"),
        ({"region": "all"}, "'region' is no parameter of 'ggcl'. It has: target, source, batch_size."),
        ({"target": "$__import__('os').system('true')"}, "`target` must hold names and numbers"),
        ({"target": "@domains"}, "`target` must hold names and numbers"),
        ({"target": "%run"}, "`target` must hold names and numbers"),
        ({"target": {"$print()": 1.0}}, "`target` must hold names and numbers"),
        ({"target": "{_target_: os.system}"}, "`target` must hold names and numbers"),
        ({"target": "{B30f"}, "`target` must be a name, a list or a mapping"),
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
