"""What bundles declare about themselves; `common` knows none of them by name, and a renamed copy works like it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from pydicom import dcmread

from common import bundles
from common.bundles import (
    BUNDLES,
    bundle_root,
    declaration,
    find_bundle,
    find_bundles,
    training_stages,
    translation_task,
)
from common.demo import Demonstration, demo_bundle, demo_commands, run_demo
from common.errors import own_error
from common.leaderboard import find_board, find_boards
from common.release import build_release

from .helpers.dicom_series import write_source_series

COMMON = Path(bundles.__file__).parent
NAMES = sorted(path.name for path in BUNDLES.iterdir() if path.is_dir())


def texts(path: Path) -> list[tuple[int, str]]:
    """Line and value of the string constants of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str)]


class Evaluated:
    """Like MONAI's workflow, which evaluates expressions in its methods."""

    def __init__(self, root: Path) -> None:
        self.config_root_path = root / "configs"

    def bundle_root(self) -> str:
        return bundle_root()


@pytest.fixture
def other(tmp_path) -> Path:
    """A folder that holds a network but is no bundle, as a training leaves it."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "network.json").write_text("{}")
    return tmp_path


def test_a_bundles_root_is_the_working_directory_or_where_its_configs_are(tmp_path, monkeypatch):
    root = BUNDLES / "ggcl"
    monkeypatch.chdir(tmp_path)
    assert bundle_root() == "."  # nobody evaluates a config
    assert Evaluated(root).bundle_root() == str(root)
    assert Evaluated(tmp_path).bundle_root() == "."
    monkeypatch.chdir(root)
    assert Evaluated(root).bundle_root() == "."


def test_a_network_in_the_working_directory_is_not_passed_over(other, monkeypatch):
    monkeypatch.chdir(other)
    with pytest.raises(ValueError, match=r"ggcl or that of the working directory .*--bundle_root"):
        Evaluated(BUNDLES / "ggcl").bundle_root()
    copied = other / "ggcl"
    shutil.copytree(BUNDLES / "ggcl" / "configs", copied / "configs")  # without a network of its own
    assert Evaluated(copied).bundle_root() == "."


def test_common_names_no_bundle():
    assert len(NAMES) >= 5
    named = re.compile(rf"\b({'|'.join(NAMES)})\b")
    found = [
        f"{path.relative_to(COMMON)}:{line}: {text!r}"
        for path in sorted(COMMON.rglob("*.py"))
        for line, text in texts(path)
        if named.search(text)
    ]
    assert found == []


def test_a_name_in_code_would_be_found_and_one_in_a_docstring_not(tmp_path):
    module = tmp_path / "module.py"
    module.write_text('"""As in bundles/ggcl."""\n\n\ndef f(x):\n    """Of ggcl."""\n    return f"bundles/ggcl/{x}"\n')
    assert texts(module) == [(6, "bundles/ggcl/")]


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """A copy of `ggcl` outside the source tree, under another name."""
    ignored = shutil.ignore_patterns("data", "output", "__pycache__")
    return shutil.copytree(BUNDLES / "ggcl", tmp_path_factory.mktemp("copy") / "my_ggcl", ignore=ignored)


def test_a_renamed_copy_translates_a_dicom_series_into_a_derived_one(copied, tmp_path):
    x, y = np.ogrid[-32:32, -24:24]
    volume = np.repeat(np.where(x**2 + y**2 < 400, 40, -1000)[..., None], 3, axis=2)
    volume = volume + np.random.default_rng(0).integers(-20, 21, volume.shape)
    affine = np.diag([-0.8, -0.8, 2.0, 1.0])
    series = write_source_series(tmp_path / "source", volume, affine)
    parser = ConfigParser()
    parser.read_config(str(copied / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(copied), "dataset_dir": str(series), "output_dir": str(tmp_path / "out")})
    parser.update({"source": "B30f", "target": "B70f", "output_format": "both", "guards": "off"})
    parser.update({"device": "$torch.device('cpu')"})
    parser.get_parsed_content("run")
    images = [dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert len(images) == 3
    for image in images:
        assert image.SeriesDescription == "SYNTHETIC kernel B70f from B30f, my_ggc 0.1.0, research use only"
        assert image.ConvolutionKernel == "B70f synthetic"
        assert image.ManufacturerModelName == "my_ggcl"
        assert "MONAI bundle my_ggcl 0.1.0, target B70f" in image.DerivationDescription
    (path,) = (tmp_path / "out").rglob("*.nii.gz")
    nifti = nib.load(path)
    turn = nib.orientations.ornt_transform(nib.io_orientation(nifti.affine), nib.orientations.axcodes2ornt("LPS"))
    expected = np.asarray(nifti.as_reoriented(turn).dataobj)
    for index, image in enumerate(images):
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        np.testing.assert_array_equal(hu, expected[:, :, index].T)


def test_a_bundle_that_does_not_say_what_it_does_is_refused_dicom_before_it_translates(copied, tmp_path):
    silent = shutil.copytree(copied, tmp_path / "silent")
    path = silent / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["translation_task"]
    path.write_text(json.dumps(metadata))
    parser = ConfigParser()
    parser.read_config(str(silent / "configs" / "inference.yaml"))
    series = write_source_series(tmp_path / "source", np.zeros((8, 8, 2), int), np.diag([-1.0, -1.0, 2.0, 1.0]))
    parser.update({"bundle_root": str(silent), "dataset_dir": str(series), "target": "B70f", "output_format": "dicom"})
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("to_do")
    assert "`translation_task` in" in str(own_error(caught.value))


def test_a_renamed_copy_has_the_originals_demonstration(copied):
    original = demo_commands(BUNDLES / "ggcl", "out")
    moved = json.dumps(demo_commands(copied, "out")).replace(str(copied), "BUNDLE")
    place = BUNDLES / "ggcl"
    short = str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)
    assert moved == json.dumps(original).replace(short, "BUNDLE")
    assert demo_bundle(str(copied)) == copied


def test_a_renamed_copy_has_the_originals_leaderboard(copied):
    board = find_board(copied)
    assert board.bundle == "my_ggcl"
    assert board.title(board.own) == "GGCL"
    assert board.files("physics+cut", "demo")[-1] == copied / "configs" / "demo.yaml"


def test_a_renamed_copy_can_be_released(copied, tmp_path):
    contents = []
    for root in (BUNDLES / "ggcl", copied):
        path = build_release(root, tmp_path)
        assert path.name == f"{root.name}_v0.1.0.zip"
        with zipfile.ZipFile(path) as archive:
            contents.append({name.removeprefix(f"{root.name}/"): archive.read(name) for name in archive.namelist()})
    assert contents[0] == contents[1]


PHYSICS = ["train", "physics", "demo"]
COMMANDS = {
    "nec_t1t2": ([["train", "demo"]], [], ["inference", "evaluate"]),
    "ggcl": ([PHYSICS], ["--source", "B30f", "--target", "B70f"], ["inference", "evaluate"]),
    "kcgan_kernel_conversion": ([PHYSICS], ["--source", "B30f", "--target", "B70f"], ["inference", "evaluate"]),
    "nect2cect": (
        [["train", "demo", "train_classifier"], ["train", "demo", "train_contrast_removal"], ["train", "demo"]],
        [],
        ["inference", "evaluate", "evaluate_removal"],
    ),
    "sr_cyclegan": ([["train", "demo"]], ["--region", "all"], ["inference", "evaluate"]),
}


def configs(command: list[str]) -> list[str]:
    """Names of the config files of a command of `monai.bundle`."""
    given = command[command.index("--config_file") + 1]
    return [Path(path).stem for path in (ast.literal_eval(given) if given.startswith("[") else [given])]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_demonstration_of_each_bundle(name):
    trainings, settings, evaluation = COMMANDS[name]
    *training, inference, evaluating, report = demo_commands(BUNDLES / name, "runs/demo")
    assert [configs(command) for command in training] == trainings
    assert configs(inference) == ["inference"]
    assert inference[-len(settings) :] == settings if settings else inference[-2] == "--output_dir"
    assert configs(evaluating) == evaluation
    assert report == ["common", "report", "runs/demo"]
    for command in (*training, inference, evaluating):
        assert command[command.index("--dataset_dir") + 1] == "runs/demo/data"
        assert command[command.index("--models_dir") + 1] == "runs/demo/models"


def test_without_a_name_the_demonstration_is_of_the_first_bundle():
    assert [root.name for root in find_bundles()][:2] == ["nec_t1t2", "ggcl"]
    assert demo_bundle().name == "nec_t1t2"
    assert next(iter(find_boards())) == "nec_t1t2"
    with pytest.raises(ValueError, match=r"must be one of \['ggcl', .*, or the path of a bundle's folder, got 'heart'"):
        run_demo("heart")


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_says_what_it_does_and_has_a_leaderboard(name):
    assert translation_task(BUNDLES / name) in {
        *("kernel_conversion", "contrast_enhancement", "super_resolution", "sequence_translation"),
    }
    assert find_boards()[name].root == BUNDLES / name


def test_the_stages_of_a_training_are_the_overlays_that_set_a_stage():
    names = {name: [path.stem for path in training_stages(BUNDLES / name)] for name in NAMES}
    assert names.pop("nect2cect") == ["train_classifier", "train_contrast_removal"]
    assert not any(names.values())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"overlay": ["demo"]}, r"`demo` in .*metadata.json must be an object with \[\] and may have .*'overlays'"),
        ("demo", "got 'demo'"),
    ],
)
def test_a_section_with_an_unknown_field_is_refused(tmp_path, section, message):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"demo": section}))
    with pytest.raises(ValueError, match=message):
        declaration(tmp_path, "demo", Demonstration)


def test_a_bundle_is_found_by_its_name_or_its_path(copied, monkeypatch):
    assert find_bundle("ggcl") == BUNDLES / "ggcl"
    assert find_bundle(copied) == copied
    monkeypatch.chdir(copied.parent)
    assert find_bundle("my_ggcl") == copied
    assert translation_task(copied.parent) is None
