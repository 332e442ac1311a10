"""The project's wheel in the environment that has MONAI alone, and the thin releases, which need it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common import __version__
from common.release import build_release, install_release

from .conftest import BUNDLES, ROOT

pytestmark = pytest.mark.interop

KINDS = {"nec_t1t2": "brain", "nect2cect": "abdomen", "sr_cyclegan": "lung"}  # else chest
OPTIONS = {
    "ggcl": ["--source", "B30f", "--target", "B70f"],
    "kcgan_kernel_conversion": ["--source", "B30f", "--target", "B50f"],
    "sr_cyclegan": ["--region", "all"],
}
WHEEL = f"monai_translation_bundles-{__version__}-py3-none-any.whl"
NEEDS = (
    "This bundle is a thin release, without Python files. It needs the wheel of its own version: pip install"
    f" {WHEEL} (from where the bundle came). Found: "
)
EACH = pytest.mark.parametrize("name", BUNDLES)


def run(python: Path, *arguments: object, cwd: Path, site: Path | None = None) -> subprocess.CompletedProcess:
    """In the environment without the project, but with what was installed to `site`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    command = [str(part) for part in (python, *arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def clean(environment: Callable[[str], Path]) -> Path:
    return environment("clean")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as building leaves files in the source's folder."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "common", source / "common", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", dist]
    done = run(Path(sys.executable), "-m", "pip", "wheel", *options, source, cwd=source)
    assert done.returncode == 0, done.stderr
    (path,) = dist.iterdir()
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages into which the wheel was installed; what it requires is in the environment."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--target", folder]
    done = run(clean, "-m", "pip", "install", *options, wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The thin releases, installed, by the bundle's name."""
    folder = tmp_path_factory.mktemp("thin")
    return {
        name: install_release(build_release(ROOT / "bundles" / name, folder, thin=True), folder) for name in BUNDLES
    }


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    assert wheel.name == WHEEL
    with zipfile.ZipFile(wheel) as zipped:
        names = {name for name in zipped.namelist() if ".dist-info/" not in name}
        licences = [name for name in zipped.namelist() if name.endswith("/LICENSE")]
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "common").rglob("*") if path.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}
    assert len(licences) == 1


REQUIREMENTS = """
from importlib.metadata import requires, version
from packaging.requirements import Requirement
needed = [Requirement(line) for line in requires("monai-translation-bundles")]
needed = [each for each in needed if each.marker is None]
print([(each.name, each.specifier.contains(version(each.name), prereleases=True)) for each in needed])
"""


def test_what_the_wheel_requires_is_what_the_bundles_require(clean, site, tmp_path):
    done = run(clean, "-W", "ignore", "-c", REQUIREMENTS, cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    found = dict(ast.literal_eval(done.stdout))
    assert len(found) > 8
    assert all(found.values()), found


def test_the_wheel_has_the_command_line(clean, site, tmp_path):
    done = run(clean, "-m", "common", "--help", cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    for verb in ("phantom", "datalist", "report", "release", "install"):
        assert f"\n     {verb}\n" in done.stdout + done.stderr
    made = run(clean, "-m", "common", "phantom", "brain", "data", "--patients", "4", "--slices", "2", "--size", "64",
               cwd=tmp_path, site=site)  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "data" / "datalist.json").is_file()


@EACH
def test_a_thin_release_has_no_python_file_and_says_what_it_needs(name, thin):
    assert thin[name].name == f"{name}_thin"
    assert not [path for path in thin[name].rglob("*") if path.suffix in (".py", ".pyc", ".so")]
    page = (thin[name] / "docs" / "README.md").read_text()
    assert f"`pip install {WHEEL}`" in page[:1000]
    metadata = json.loads((thin[name] / "configs" / "metadata.json").read_text())
    listed = {package.replace("-", "_").lower() for package in metadata["required_packages_version"]}
    assert not listed & {"common", "monai_translation_bundles"}  # a stranger could register that name


@EACH
def test_a_thin_release_translates_with_the_wheel_as_the_full_release_does_without(
    name, thin, unpacked, phantoms, clean, site, tmp_path
):
    volumes = []
    for root, packages in ((thin[name], site), (unpacked[name], None)):
        out = tmp_path / root.name
        command = ["-m", "monai.bundle", "run", "inference", "--config_file", root / "configs" / "inference.yaml"]
        command += ["--bundle_root", root, "--dataset_dir", phantoms[KINDS.get(name, "chest")], "--output_dir", out]
        done = run(clean, *command, *OPTIONS.get(name, []), cwd=tmp_path, site=packages)
        assert done.returncode == 0, done.stderr[-3000:]
        volumes.append({str(path.relative_to(out)): nib.load(path) for path in sorted(out.rglob("*.nii*"))})
    assert volumes[0].keys() == volumes[1].keys()
    assert volumes[0]
    for file, image in volumes[0].items():
        np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(volumes[1][file].dataobj))
        np.testing.assert_array_equal(image.affine, volumes[1][file].affine)


@pytest.mark.parametrize("config", ["inference", "train"])
def test_without_the_wheel_the_command_line_ends_in_one_message(config, thin, clean, tmp_path):
    run_id = {"inference": "inference", "train": "training"}[config]
    root = thin["ggcl"]
    command = ["-W", "ignore", "-m", "monai.bundle", "run", run_id, "--bundle_root", root]
    done = run(clean, *command, "--config_file", root / "configs" / f"{config}.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"{NEEDS}none."


SECTIONS = """
import sys
from monai.bundle import ConfigParser, load
root, name, workflow = sys.argv[1:4]
calls = {"load": lambda: load(name, bundle_dir=root, workflow_type="inference")}
for id_ in sys.argv[4:]:
    parser = ConfigParser()
    parser.read_config(f"{root}/{name}/configs/{workflow}.json")
    parser.update({"bundle_root": f"{root}/{name}"})
    calls[id_] = lambda parser=parser, id_=id_: parser.get_parsed_content(id_)
for id_, call in calls.items():
    try:
        call()
        print(id_, "no error")
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        print(id_, type(error).__name__, error)
"""


@EACH
def test_without_the_wheel_every_section_and_monais_load_give_the_same_message(name, thin, clean, tmp_path):
    ids = ("network_def", "network", "preprocessing", "inferer", "dataset", "evaluator")
    arguments = (thin[name].parent, thin[name].name, "inference", *ids)
    done = run(clean, "-W", "ignore", "-c", SECTIONS, *arguments, cwd=tmp_path)
    lines = [line for line in done.stdout.splitlines() if line.partition(" ")[0] in ("load", *ids)]
    assert lines == [f"{id_} ImportError {NEEDS}none." for id_ in ("load", *ids)], done.stderr[-2000:]


def test_another_version_or_another_package_of_the_name_is_told(thin, clean, site, tmp_path):
    root = thin["nec_t1t2"]
    other, foreign = tmp_path / "other", tmp_path / "foreign"
    shutil.copytree(site / "common", other / "common")
    text = (other / "common" / "__init__.py").read_text()
    (other / "common" / "__init__.py").write_text(text.replace(f'"{__version__}"', '"9.9.9"'))
    (foreign / "common").mkdir(parents=True)
    (foreign / "common" / "__init__.py").write_text("")
    for packages, found in ((other, "9.9.9"), (foreign, "another package named common")):
        command = ["-W", "ignore", "-m", "monai.bundle", "run", "inference", "--bundle_root", root]
        command += ["--config_file", root / "configs" / "inference.yaml"]
        done = run(clean, *command, cwd=tmp_path, site=packages)
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1] == f"{NEEDS}{found} in {packages / 'common'}."


def test_a_full_release_takes_the_wheel_of_its_version_where_that_is_installed(unpacked, clean, site, tmp_path):
    code = "import common, sys; print(common.__file__)\nfrom monai.bundle import ConfigParser\np = ConfigParser()\n"
    code += "p.read_config(sys.argv[1]); p.update({'bundle_root': sys.argv[2]})\n"
    code += "print(type(p.get_parsed_content('network_def')))"
    root = unpacked["nec_t1t2"]
    done = run(clean, "-W", "ignore", "-c", code, root / "configs" / "inference.json", root, cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(site / "common" / "__init__.py")
    assert "common.networks" in done.stdout
