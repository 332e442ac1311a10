"""The Model Zoo's rules on the five releases, one test a rule.

Stated in our own words after `ci/verify_bundle.py` of Project-MONAI/model-zoo (modes min, regular and full) and its
page for contributors; docs/model_zoo.md lists them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from tests.helpers.shared import needs_shared, shared

from .in_release import Call, call_in, command, documented

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
UNIT_TESTS = ROOT / "ci" / "unit_tests"
SCHEMA_PARTS = ("data", "schema", "meta_schema_20240725.json")
SCHEMA = shared(*SCHEMA_PARTS)
LIMIT_BYTES = 25 * 2**20
LISTED = {"path", "url", "hash_val", "hash_type"}
EXACT = re.compile(r"\d+(\.\d+)+")
PHANTOM = {"ggcl": "chest", "kcgan_kernel_conversion": "chest", "nec_t1t2": "brain"}
PHANTOM |= {"nect2cect": "abdomen", "sr_cyclegan": "lung"}
OVERLAYS = {"nect2cect": ["configs/train_contrast_removal.yaml"]}  # the stage that needs no other before it
# What MONAI's bundle commands and torch themselves need, and what only commands beside the configs do.
COMES_ALONG = {"torch", "monai", "numpy", "fire", "yaml", "jinja2", "markupsafe"}
DISTRIBUTIONS = {"ignite": "pytorch-ignite", "skimage": "scikit-image"}
WITH_SCHEMA = needs_shared(*SCHEMA_PARTS)
EACH = pytest.mark.parametrize("name", PHANTOM)


@pytest.fixture(scope="module")
def releases(unpacked: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the releases: exports are written into them."""
    folder = tmp_path_factory.mktemp("releases")
    return {name: Path(shutil.copytree(path, folder / name)) for name, path in unpacked.items()}


@pytest.fixture(scope="module")
def verdict(releases: dict[str, Path], phantoms: dict[str, Path]) -> Callable[[str, str], str | None]:
    """From a bundle and a rule to the error of MONAI's check, None where it passes; all checks of a bundle at once."""
    known: dict[str, dict[str, str | None]] = {}

    def find(name: str, rule: str) -> str | None:
        if name not in known:
            calls = monai_checks(name, phantoms[PHANTOM[name]], releases[name].parent / "scratch")
            known[name] = dict(zip(calls, call_in(releases[name], list(calls.values()))))
        return known[name][rule]

    return find


def monai_checks(name: str, data: Path, scratch: Path) -> dict[str, Call]:
    """By rule."""
    network = {"net_id": "network_def", "meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}
    places = {"dataset_dir": str(data), "output_dir": str(scratch / name), "models_dir": str(scratch / name)}
    training = ["configs/train.json", "configs/demo.yaml", *OVERLAYS.get(name, [])]
    checks: dict[str, Call] = {
        "network": ("verify_net_in_out", {**network, "device": "cpu", "p": 1, "n": 1, "any": 1, "bundle_root": "."}),
        "torchscript": (
            "ckpt_export",
            {**network, "filepath": "verified.ts", "ckpt_file": "models/model.pt", "bundle_root": "."},
        ),
        "infer": (
            "check_properties",
            {
                "config_file": "configs/inference.json",
                "workflow_type": "infer",
                **{key: places[key] for key in ("dataset_dir", "output_dir")},
            },
        ),
        "train": ("check_properties", {"config_file": training, "workflow_type": "train", **places}),
    }
    if SCHEMA.is_file():
        checks["metadata"] = ("verify_metadata", {"meta_file": "configs/metadata.json", "filepath": str(SCHEMA)})
    return checks


def metadata(release: Path) -> dict[str, Any]:
    return json.loads((release / "configs" / "metadata.json").read_text())


# ---- all modes: files, version, metadata


@EACH
def test_the_name_does_not_hold_what_separates_name_and_version(name):
    assert "_v" not in name


@EACH
def test_licence_and_metadata_are_there(name, releases):
    assert "Apache License" in (releases[name] / "LICENSE").read_text()
    assert (releases[name] / "configs" / "metadata.json").is_file()


@EACH
def test_the_weights_are_there_or_listed_with_their_checksum(name, releases):
    if not (releases[name] / "models" / "model.pt").is_file():
        import yaml

        listed = yaml.safe_load((releases[name] / "large_files.yml").read_text())["large_files"]
        assert all(entry.keys() >= LISTED for entry in listed)
        assert "models/model.pt" in [entry["path"] for entry in listed]


@EACH
def test_files_have_the_names_that_consumers_look_for(name, releases):
    configs = {path.name for path in (releases[name] / "configs").iterdir()}
    assert configs >= {"inference.json", "inference.yaml", "train.json", "train.yaml", "logging.conf", "metadata.json"}


@EACH
def test_a_json_config_says_what_its_yaml_twin_does(name, releases):
    from monai.bundle import ConfigParser

    for workflow in ("train", "inference"):
        twins = [
            ConfigParser.load_config_file(str(releases[name] / f"configs/{workflow}.{s}")) for s in ("json", "yaml")
        ]
        assert twins[0] == twins[1]


@EACH
def test_the_version_is_in_the_changelog(name, releases):
    facts = metadata(releases[name])
    assert re.fullmatch(r"\d+\.\d+\.\d+", facts["version"])
    assert facts["changelog"][facts["version"]]


@EACH
def test_the_index_has_each_version_once_with_its_checksum(name, releases, dist):
    (key,) = [key for key in json.loads((dist / "model_info.json").read_text()) if key.startswith(f"{name}_v")]
    assert key == f"{name}_v{metadata(releases[name])['version']}"
    entry = json.loads((dist / "model_info.json").read_text())[key]
    assert entry["checksum"] == hashlib.sha256((dist / f"{key}.zip").read_bytes()).hexdigest()


@WITH_SCHEMA
@EACH
def test_metadata_follows_monais_schema(name, verdict):
    assert verdict(name, "metadata") is None


@EACH
def test_supported_apps_is_an_object(name, releases):
    assert isinstance(metadata(releases[name])["supported_apps"], dict)


# ---- full mode: MONAI can use it


@EACH
def test_inference_has_every_id_that_monai_requires(name, verdict):
    assert verdict(name, "infer") is None


@EACH
def test_training_has_every_id_that_monai_requires(name, verdict):
    assert verdict(name, "train") is None


@EACH
def test_the_network_takes_and_gives_what_metadata_says(name, verdict):
    assert verdict(name, "network") is None


@EACH
def test_the_weights_export_to_torchscript(name, verdict, releases):
    assert verdict(name, "torchscript") is None
    assert isinstance(torch.jit.load(str(releases[name] / "verified.ts")), torch.jit.ScriptModule)


# ---- what the zoo asks of contributors


@EACH
def test_every_version_is_pinned_exactly(name, releases):
    facts = metadata(releases[name])
    pins = {key: facts[f"{key}_version"] for key in ("monai", "pytorch", "numpy")} | facts["required_packages_version"]
    assert [package for package, version in pins.items() if not EXACT.fullmatch(version)] == []


@EACH
def test_the_pins_are_the_versions_that_are_tested(name, releases):
    facts = metadata(releases[name])
    pins = {"torch": facts["pytorch_version"], "monai": facts["monai_version"], "numpy": facts["numpy_version"]}
    tested = pinned_for("3.10")
    assert {package: tested.get(package) for package in facts["required_packages_version"] | pins} == {
        **facts["required_packages_version"],
        **pins,
    }


def pinned_for(python: str) -> dict[str, str]:
    """The versions of constraints.txt for a version of Python; the Zoo runs 3.10."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    chosen = [each for each in requirements if each.marker is None or each.marker.evaluate({"python_version": python})]
    return {each.name: str(each.specifier).removeprefix("==") for each in chosen}


@EACH
def test_what_the_code_imports_at_its_top_is_a_declared_requirement(name, releases):
    declared = set(metadata(releases[name])["required_packages_version"])
    assert "common" not in declared  # consumers install this list with pip
    unknown = {
        (package, path.name)
        for path in (releases[name] / "common").rglob("*.py")
        for package in top_level_imports(path) - sys.stdlib_module_names - COMES_ALONG
        if DISTRIBUTIONS.get(package, package) not in declared
    }
    assert unknown == set()


def top_level_imports(path: Path) -> set[str]:
    """The packages that a module imports absolutely when it is imported itself."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])
    return names


@EACH
def test_no_file_is_larger_than_25_mb(name, releases, dist):
    files = [path for path in releases[name].rglob("*") if path.is_file()] + list(dist.glob("*.zip"))
    assert [path for path in files if path.stat().st_size > LIMIT_BYTES] == []


@EACH
def test_the_docs_are_a_readme_and_the_datas_licence(name, releases):
    readme = (releases[name] / "docs" / "README.md").read_text()
    assert "Research use only" in readme
    assert "RESEARCH USE ONLY" in metadata(releases[name])["description"]
    assert "licence" in (releases[name] / "docs" / "data_license.txt").read_text()


ZOO_STYLE = {  # its pyproject.toml, setup.cfg and runtests.sh; pytype is not run, as it has no release for Python 3.13
    "black": ["--check", "--skip-magic-trailing-comma", "-l", "120", "-t", "py37", "-t", "py38", "-t", "py39"],
    "isort": ["--check", "--profile", "black", "-l", "120"],
    "flake8": [
        *("--isolated", "--max-line-length", "120", "--select", "B,C,E,F,N,P,T4,W,B9"),
        *("--ignore", "E203,E501,E741,W503,W504,C408,N812,B023,B905,B028,B907,C419"),
        *("--per-file-ignores", "__init__.py:F401 __main__.py:F401"),
    ],
}


@pytest.mark.parametrize("tool", ZOO_STYLE)
@pytest.mark.parametrize("name", [*PHANTOM, "unit_tests"])
def test_the_code_has_the_zoos_style(name, tool, releases, environment):
    code = UNIT_TESTS if name == "unit_tests" else releases[name]
    command = [environment("zoo"), "-m", tool, *ZOO_STYLE[tool], code]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_pin_exists_for_the_zoos_python(releases, environment):
    """As environments/zoo.sh found them in the package index, for Python 3.10."""
    found = json.loads((environment("zoo").parents[1] / "found.json").read_text())["install"]
    there = {each["metadata"]["name"].lower().replace("_", "-"): each["metadata"]["version"] for each in found}
    for release in releases.values():
        facts = metadata(release)
        pins = {"monai": facts["monai_version"], "torch": facts["pytorch_version"], "numpy": facts["numpy_version"]}
        pins |= facts["required_packages_version"]
        assert {name: there.get(name) for name in pins} == pins


CHECK_WORKFLOW = """
def check_workflow(workflow, check_properties=False):
    workflow.initialize()
    if check_properties and (missing := workflow.check_properties()):
        raise ValueError(f"missing or misplaced: {missing}")
    workflow.run()
    workflow.finalize()
"""


@EACH
def test_the_bundles_unit_tests_pass_in_the_zoos_layout(name, releases, environment, tmp_path):
    """`models/NAME` and `ci/unit_tests/test_NAME.py`, with the one function of its `utils` in our words."""
    shutil.copytree(UNIT_TESTS, tmp_path / "ci" / "unit_tests")
    shutil.copytree(releases[name], tmp_path / "models" / name)
    (tmp_path / "ci" / "unit_tests" / "utils.py").write_text(CHECK_WORKFLOW)
    settings = {**os.environ, "PYTHONPATH": str(tmp_path / "ci" / "unit_tests"), "OMP_NUM_THREADS": "1"}
    command = [environment("clean"), "-W", "ignore", "-m", "unittest", f"test_{name}"]
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Ran 2 tests" in done.stderr


@EACH
def test_the_checks_hold_from_the_zoos_root(name, unpacked, phantoms, tmp_path):
    """The Zoo runs them above `models`, with the bundle in front on Python's path and as `bundle_root`."""
    release = Path(shutil.copytree(unpacked[name], tmp_path / "models" / name))
    network = {"net_id": "network_def", "meta_file": f"models/{name}/configs/metadata.json"}
    network |= {"config_file": f"models/{name}/configs/inference.json", "bundle_root": f"models/{name}"}
    weights = {"filepath": f"models/{name}/models/verify_model.ts", "ckpt_file": f"models/{name}/models/model.pt"}
    calls = [("verify_net_in_out", {**network, "device": "cpu"}), ("ckpt_export", {**network, **weights})]
    assert call_in(release, calls, cwd=tmp_path) == [None, None]


@EACH
def test_the_scores_are_of_these_weights_and_stand_beside_their_baselines(name, releases):
    scores = metadata(releases[name])["eval_metrics"]
    weights = hashlib.sha256((releases[name] / "models" / "model.pt").read_bytes()).hexdigest()
    assert scores["weights_sha256"] == weights
    directions = {key: value for key, value in scores.items() if "->" in key}
    assert directions
    for methods in directions.values():
        assert len(methods.keys() - {"network"}) >= 2
        assert len({frozenset(values) for values in methods.values()}) == 1


@EACH
def test_the_scores_come_from_the_committed_results(name, releases):
    """Every number is a mean in benchmarks/results, of its direction, method and metric, rounded to 4 digits."""
    scores = metadata(releases[name])["eval_metrics"]
    found = committed(scores["weights_sha256"])
    for direction, methods in ((key, value) for key, value in scores.items() if "->" in key):
        for method, values in methods.items():
            for metric, value in values.items():
                means = found[direction, method, metric]
                assert value in [float(f"{mean:.4g}") for mean in means], (direction, method, metric)


def committed(weights_sha256: str) -> dict[tuple[str, str, str], list[float]]:
    """Means by direction, method and metric; the network's of these weights alone."""
    means: dict[tuple[str, str, str], list[float]] = {}
    for path in RESULTS.glob("*.json"):
        results = json.loads(path.read_text())
        for run in results.get("runs", [results]):
            if run.get("setting") == "ggcl physics, untrained":  # the filters that both kernel bundles start from
                for (direction, _, metric), mean in run_means(run):
                    means.setdefault((direction, "physics_untrained", metric), []).append(mean)
            mine = run.get("facts", run).get("weights_sha256") == weights_sha256
            for (direction, method, metric), mean in run_means(run):
                if mine or method != "network":
                    means.setdefault((direction, method, metric), []).append(mean)
    return means


def run_means(run: dict[str, Any]) -> list[tuple[tuple[str, str, str], float]]:
    """Of a run with a summary, with a table by direction, or with a row a patient."""
    table = run.get("directions") or run.get("summary") or {}
    means = [
        ((direction, method, metric), value["mean"])
        for direction, methods in table.items()
        if "->" in direction
        for method, values in methods.items()
        for metric, value in values.items()
    ]
    rows: dict[tuple[str, str, str], list[float]] = {}
    for row in (row for row in run.get("rows", []) if "direction" in row):
        for metric, value in row.items():
            if isinstance(value, float):
                rows.setdefault((row["direction"], row["method"], metric), []).append(value)
    return means + [(key, sum(values) / len(values)) for key, values in rows.items()]


@WITH_SCHEMA
def test_the_commands_of_the_page_run_as_they_are_written(releases):
    release = releases["nec_t1t2"]
    shutil.copy(SCHEMA, release / "schema.json")  # what MONAI would download
    lines = documented("model_zoo")
    assert len(lines) == 3
    for line in lines:
        done = command(release, shlex.split(line)[1:])
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
