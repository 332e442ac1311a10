"""What a job may set on a site: every trick that would bring code or sections is refused before anything is built."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.federated import SiteAlgo
from common.federated.policy import LISTED, POLICY_VARIABLE, refuse_other_kinds, refuse_unlisted

BUNDLES = Path(__file__).parents[2] / "bundles"
COMMAND = {"_target_": "common.networks.definition.os.system", "command": "touch OWNED"}


def nested(depth: int) -> list[Any]:
    value: list[Any] = [1]
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "name",
    [
        *("network_def", "imports", "run", "training", "start_up", "make_data", "handlers", "device", "dataset_dir"),
        *("network_def#_target_", "network_def::_target_", "train#trainer#seed", "train::trainer", "batch_size#0"),
        *("+batch_size", "%batch_size", "$batch_size", "@seed", "~seed", " seed", "seed ", "seed\n", "Seed"),
        "se\u0435d",
        *("models_dir", "output_dir", "bundle_root", "resume", "max_epochs", "num_workers", "cache_dir", "_meta_"),
        *("", 3, None, True, ("seed",)),
    ],
)
@pytest.mark.parametrize("value", [1, COMMAND], ids=["number", "command"])
def test_no_other_name_can_be_set(name, value):
    for which in LISTED:
        with pytest.raises(ValueError, match=f"`{which}` may set what this site's policy lists"):
            refuse_unlisted({name: value}, which)


BAD_VALUES = [
    COMMAND,
    {"a": {"b": [COMMAND]}},
    [COMMAND],
    [[1, 2]],
    {},
    [],
    {1},
    b"1",
    *("$__import__('os').system('true')", " $1", "$import os", "@run", "%run", "%configs/demo.yaml#seed", "a@b", "a b"),
    *("\u00a0$1", "\ufeff$1", "", ".hidden", "../x", "/etc/passwd", "x\n", "x\0", "x" * 65, "\u0661"),
    ["$1"],
    ["1"],
    [1, None],
    [True],
    [1] * 17,
    *(math.nan, math.inf, -math.inf, 10**400, -(10**400), 1e300, 2j),
    [math.nan],
    [1, 10**5000],
    nested(100_000),
    yaml.safe_load("[&a [1, 1], *a, *a]"),
    yaml.safe_load("{x: &a {_target_: os.system}, y: *a}"),
    object(),
]


@pytest.mark.parametrize("value", BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_a_value_is_plain_and_finite(value):
    with pytest.raises(ValueError, match="`seed` of `train_options` must be a finite number") as error:
        refuse_unlisted({"seed": value}, "train_options")
    assert len(str(error.value)) < 500


def test_the_client_refuses_before_anything_is_built():
    for which in LISTED:
        for options in (COMMAND, {"batch_size": COMMAND}, {"batch_size": "$1"}, [("batch_size", 2)], "batch_size"):
            with pytest.raises(ValueError, match=f"`{which}`"):
                SiteAlgo("bundle", "data", max_epochs=1, **{which: options})
    for count in ("$1", "1", 1.0, True, math.nan, [1], nested(100_000)):
        with pytest.raises(ValueError, match="`local_epochs` must be >= 1 and `max_epochs`"):
            SiteAlgo("bundle", "data", max_epochs=count)


def test_a_mistyped_name_is_refused_and_the_right_one_named():
    with pytest.raises(ValueError, match=r"got 'batchsize'\. Did you mean 'batch_size'\?"):
        refuse_unlisted({"batchsize": 1}, "train_options")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "train.yaml").write_text(
        "seed: 0\nlearning_rate: 0.1\namp: false\noutput: tanh\nspacing_mm: [1.0, -1]\nchannels: [8, 8]\n"
        "samples_per_epoch: null\nbatch_size: null\nimage_size: $4 * 2\nfactor: {a: 1}\npatch_size: 3\n"
    )
    (tmp_path / "overlay.yaml").write_text("patch_size: $128 // 2\nseed: null\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("seed", [3, -1, None], [1.5, "3", True, [3]]),
        ("learning_rate", [0.2, 1], ["0.2", "1e-3", True, None, [0.2]]),
        ("amp", [True], [1, 0, "true", None]),
        ("output", ["residual"], [1, None, True, ["a"]]),
        ("spacing_mm", [[2, 2.5, -1], (2.0, 1)], [2.0, None, "2"]),
        ("channels", [[4], [4, 4, 4]], [[4.0], 4, None]),
        ("samples_per_epoch", [5, 5.0, None], ["5", True, [5]]),
        ("batch_size", [5, None], [5.5, "5"]),
        ("patch_size", [16], [16.5, "16", None]),
        ("image_size", [], [8, 8.0]),
        ("factor", [], [2, None]),
        ("temperature", [], [0.1]),
    ],
)
def test_a_value_is_of_the_kind_that_the_sites_files_have(name, good, bad, bundle):
    files = ["train.yaml", "overlay.yaml"]
    for value in good:
        refuse_other_kinds({name: value}, "train_options", bundle, files)
    for value in bad:
        with pytest.raises(ValueError, match=f"`{name}` of `train_options` must be "):
            refuse_other_kinds({name: value}, "train_options", bundle, files)


def test_the_lists_name_plain_values_of_the_bundles_and_all_of_them_are_documented():
    text = (BUNDLES.parent / "docs" / "federated.md").read_text()
    for which, files in (("train_options", ["train"]), ("evaluate_options", ["inference", "evaluate"])):
        own: dict[str, list[Any]] = {}
        for path in sorted(file for name in files for file in BUNDLES.glob(f"*/configs/{name}.yaml")):
            for name, value in yaml.safe_load(path.read_text()).items():
                own.setdefault(name, []).append(value)
        for name in LISTED[which]:
            values = own[name]
            assert not any(isinstance(value, dict) for value in values), name
            assert any(not (isinstance(value, str) and value[:1] in "$@%") for value in values), name
            assert f"`{name}`" in text, name


def test_a_site_has_its_own_list(tmp_path, monkeypatch):
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"train_options": ["batch_size", "source"]}))
    monkeypatch.setenv(POLICY_VARIABLE, str(policy))
    refuse_unlisted({"batch_size": 2, "source": "T1"}, "train_options")
    refuse_unlisted({"split": "test"}, "evaluate_options")
    with pytest.raises(ValueError, match="got 'seed'"):
        refuse_unlisted({"seed": 2}, "train_options")


@pytest.mark.parametrize(
    "content",
    [{"train_options": "*"}, {"train_options": ["network_def#_target_"]}, {"all": ["seed"]}, {"train_options": [1]}],
)
def test_a_sites_list_is_checked(content, tmp_path, monkeypatch):
    (tmp_path / "policy.json").write_text(json.dumps(content))
    monkeypatch.setenv(POLICY_VARIABLE, str(tmp_path / "policy.json"))
    with pytest.raises(ValueError, match="must hold lists of top-level ids"):
        refuse_unlisted({}, "train_options")
    monkeypatch.setenv(POLICY_VARIABLE, str(tmp_path / "absent.json"))
    with pytest.raises(FileNotFoundError):
        refuse_unlisted({}, "train_options")
