"""Every command in the docs runs as it is written, with small numbers appended."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from common import LAZY
from common.moved import MOVED
from common.phantoms import generate_phantom
from tests.helpers.commands import ROOT, python_m
from tests.helpers.dicom_series import write_source_series
from tests.helpers.pages import commands, run_line
from tests.helpers.shared import needs_shared, shared
from tests.helpers.translations import CT_AFFINE, trunk

NEC = ROOT / "bundles" / "nec_t1t2"
SMALL = """--max_epochs 1 --batch_size 2 --image_size 64 --val_interval 1 --spacing_mm '[4.0,4.0,-1]'
 --network_def "{'_target_': 'common.networks.CompactGenerator', 'channels': [8, 8], 'num_res_units': 1}"
 --discriminator_def#num_scales 1 --discriminator_def#num_layers 2 --discriminator_def#channels 4"""
SMALL_PHANTOM = """ --phantom "{'patients': 6, 'slices': 4, 'size': 64}" """
SMALL_KERNEL = """--max_epochs 1 --samples_per_epoch 4 --image_size 128 --channels 8 --num_res_blocks 1
 --discriminator_channels 4 --val_interval 1"""
SMALL_STAGE = """--max_epochs 1 --classifier_epochs 1 --image_size 64 --spacing_mm '[5.3333,5.3333]' --channels '[8,8]'
 --spade_channels 4 --classifier_width 2 --discriminator_channels '[8,8]'"""
SMALL_CHEST = """ --phantom "{'patients': 6, 'slices': 1, 'size': 128}" """
SMALL_PATCHES = """--max_epochs 1 --samples_per_epoch 2 --batch_size 2 --patch_size 12 --mask_key '$None' --channels 8
 --num_res_blocks 1 --discriminator_channels 4 --target_discriminator_layers 1 --source_discriminator_layers 1"""
SMALL_LUNG = """ --phantom "{'patients': 4, 'slices': 8, 'size': 128, 'factor': '@factor'}" """
PAGES = {  # where the details of a bundle are
    "ggcl": "kernel_conversion",
    "kcgan_kernel_conversion": "kernel_conversion",
    "nec_t1t2": "nec_t1t2",
    "nect2cect": "nect2cect",
    "sr_cyclegan": "sr_cyclegan",
}
HEADINGS = [  # those of the MONAI Model Zoo
    *("Model Description", "Data", "System Configuration", "Commands", "Performance", "Limitations"),
    *("References", "License"),
]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("bundles/*/*/README.md")),
    *sorted(ROOT.glob("benchmarks/notes/*.md")),
]
RELEASED = shared("fixtures", "ggcl_reference")


def bundle_commands(bundle: str) -> list[str]:
    """The commands of a bundle's README and of its page in docs/bundles."""
    pages = ROOT / "bundles" / bundle / "docs" / "README.md", ROOT / "docs" / "bundles" / f"{PAGES[bundle]}.md"
    return [command for page in pages for command in commands(page)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A copy of the bundle's folder, so that its `models/` and `data/` are nobody else's; and a data folder."""
    folder = tmp_path_factory.mktemp("docs")
    ignore = shutil.ignore_patterns("model*.pt", "*.json.bak", "data", "output")
    shutil.copytree(NEC, folder / "nec_t1t2", ignore=ignore)
    generate_phantom("brain", folder / "DATA", patients=6, slices=4, size=64)
    return folder


@pytest.mark.slow
@needs_shared("fixtures", "ggcl_reference")
@pytest.mark.parametrize("bundle", ["ggcl", "kcgan_kernel_conversion"])
def test_the_commands_of_a_kernel_bundles_page_run_in_order(bundle, tmp_path):
    shutil.copytree(ROOT / "bundles" / bundle, tmp_path / bundle, ignore=shutil.ignore_patterns("data", "output"))
    generate_phantom("chest", tmp_path / "DATA", patients=6, slices=1, size=128)
    (image, *_) = sorted((tmp_path / "DATA" / "images").glob("*B30f.nii.gz"))
    places = {"FILE_OR_FOLDER": image, "DATA": tmp_path / "DATA", "OUT": tmp_path / "OUT"}
    places |= {f"400000-{which}.ckpt": RELEASED / f"400000-{which}.ckpt" for which in "GD"}
    for command in bundle_commands(bundle):
        line = re.sub("|".join(map(re.escape, places)), lambda match: str(places[match.group()]), command)
        if " training " in line:
            line += " " + " ".join(SMALL_KERNEL.split("\n")) + (SMALL_CHEST if "demo.yaml" in line else "")
        done = run_line(line, cwd=tmp_path / bundle)
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    assert (tmp_path / "OUT" / "report.html").is_file()


def labelled_scan(folder: Path) -> Path:
    """A folder with one enhanced scan of a body with a liver, its label map and the datalist."""
    folder.mkdir()
    x, y = np.mgrid[-32:32, -32:32]
    liver, body = np.hypot(x - 8, y) < 10, np.hypot(x, y) < 26
    scan = np.repeat(np.select([liver, body], [114, 30], -1000)[..., None], 8, axis=2)
    scan = scan + np.random.default_rng(0).normal(0, 8, scan.shape)
    affine = np.diag([5.0, 5.0, 4.0, 1.0])
    nib.save(nib.Nifti1Image(scan.astype(np.int16), affine), folder / "p1.nii.gz")
    label = np.repeat(np.where(liver, 5, 0)[..., None], 8, axis=2)
    nib.save(nib.Nifti1Image(label.astype(np.uint8), affine), folder / "p1_label.nii.gz")
    entry = {"image": "p1.nii.gz", "label": "p1_label.nii.gz", "domain": "CECT", "patient": "p1"}
    (folder / "datalist.json").write_text(json.dumps({"name": "one scan", "training": [entry]}))
    return folder


@pytest.mark.slow
def test_the_commands_of_the_contrast_bundles_page_run_in_order(tmp_path):
    shutil.copytree(
        ROOT / "bundles" / "nect2cect", tmp_path / "nect2cect", ignore=shutil.ignore_patterns("data", "output")
    )
    generate_phantom("abdomen", tmp_path / "DATA", patients=5, slices=4, size=64)
    out = tmp_path / "OUT"
    places = {"FILE_OR_FOLDER": tmp_path / "DATA", "OUT_OF_ONE": out, "OUT_OF_ANOTHER": tmp_path / "OUT2"}
    places |= {"DATA": tmp_path / "DATA", "OUT": out, "SHEET": tmp_path / "SHEET"}
    places |= {"SCANS": labelled_scan(tmp_path / "SCANS"), "TWINS": tmp_path / "TWINS"}
    for command in bundle_commands("nect2cect"):
        line = re.sub(r"\b(" + "|".join(places) + r")\b", lambda match: str(places[match.group()]), command)
        if " training " in line:
            line += " " + " ".join(SMALL_STAGE.split("\n"))
        if " reading_sheet " in line:
            shutil.copytree(out, tmp_path / "OUT2")
        if " reading_results " in line:
            grades = tmp_path / "SHEET" / "for_readers" / "grades.csv"
            grades.write_text(re.sub(",,", ",2,3", grades.read_text()).replace("\r", ""))
        done = run_line(line, cwd=tmp_path / "nect2cect")
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    assert (out / "report.html").is_file()
    assert "OUT2" in done.stdout


@pytest.mark.slow
def test_the_commands_of_the_super_resolution_bundles_page_run_in_order(tmp_path):
    bundle = tmp_path / "sr_cyclegan"
    shutil.copytree(ROOT / "bundles" / "sr_cyclegan", bundle, ignore=shutil.ignore_patterns("data", "output"))
    generate_phantom("chest", tmp_path / "CHEST", patients=4, slices=2, size=128)
    (image, *_) = sorted((tmp_path / "CHEST" / "images").glob("*B30f.nii.gz"))
    places = {"FILE_OR_FOLDER": image, "OUT": tmp_path / "OUT"}
    for name, factor in (("DATA", 8), ("DATA_X2", 2)):
        places[name] = tmp_path / name
        generate_phantom("lung", tmp_path / name, patients=4, slices=8, size=128, factor=factor)
    for command in bundle_commands("sr_cyclegan"):
        line = re.sub(r"\b(" + "|".join(places) + r")\b", lambda match: str(places[match.group()]), command)
        if " training " in line:
            line += " " + " ".join(SMALL_PATCHES.split("\n"))
            line += SMALL_LUNG if "demo.yaml" in line or "walls.yaml" in line else ""
        done = run_line(line, cwd=bundle)
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    factors = {
        folder: json.loads((bundle / folder / "network.json").read_text())["factor"]
        for folder in ("models", "output/sr_unit/models", "output/x2/models", "output/x4/models")
    }
    assert list(factors.values()) == [8, 8, 2, 4]
    assert (tmp_path / "OUT" / "report.html").is_file()


@pytest.mark.parametrize("page", ["README.md", "bundles/nec_t1t2/docs/README.md"])
def test_the_commands_of_a_page_run_in_order(page, workplace):
    found = commands(ROOT / page)
    assert len(found) >= 4
    places = {"FILE_OR_FOLDER": workplace / "DATA", "DATA": workplace / "DATA", "OUT": workplace / f"OUT{len(page)}"}
    series = workplace / f"series{len(page)}"
    places["SCAN"] = write_source_series(series, trunk(), CT_AFFINE, ConvolutionKernel="B70f")
    for command in found:
        line = re.sub(r"\b(SCAN|FILE_OR_FOLDER|DATA|OUT)\b", lambda match: str(places[match.group()]), command)
        if " training " in line:
            line += " " + " ".join(SMALL.split("\n")) + (SMALL_PHANTOM if "demo.yaml" in line else "")
        done = run_line(line, cwd=workplace / "nec_t1t2", fork=page != "README.md")
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    assert (places["OUT"] / "report.html").is_file()
    assert (places["OUT"] / "summary.json").is_file()


def test_the_readmes_function_for_a_notebook_runs(tmp_path, monkeypatch, capsys):
    write_source_series(tmp_path / "series", trunk(), CT_AFFINE, ConvolutionKernel="B70f")
    monkeypatch.chdir(tmp_path)
    (example, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out.startswith("torch.Size([28, 28, 4]) ")
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_every_file_that_a_page_links_to_exists():
    for page in DOCUMENTS:
        folder = ROOT / "docs" if page.parent.name == "notes" else page.parent  # notes become pages of docs/
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (folder / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("bundle", PAGES)
def test_a_bundles_readme_has_the_headings_of_the_model_zoo_on_two_screens(bundle):
    lines = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text().splitlines()
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == HEADINGS
    assert len(lines) <= 120
    assert "Research use only: not for diagnosis" in lines[2]


@pytest.mark.parametrize("bundle", PAGES)
def test_the_scores_of_a_bundles_readme_are_those_of_its_metadata(bundle):
    """Those of the metadata come from committed results: `tests/interop/test_zoo.py`."""
    page = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text().split("## Performance")[1].split("\n## ")[0]
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line[:1] == "|")
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
    scores = {key: value for key, value in metadata["eval_metrics"].items() if "->" in key}
    if len(scores) == 1:
        (columns,) = scores.values()
        expected = {method: [values[name] for name in head[1:]] for method, values in columns.items()}
    else:
        assert head[1:] == list(scores)
        methods = next(iter(scores.values()))
        expected = {method: [direction[method]["psnr"] for direction in scores.values()] for method in methods}
    assert {row[0]: [float(cell) for cell in row[1:]] for row in rows} == expected


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_files_and_names_of_common_that_a_page_mentions_exist(page):
    text = page.read_text()
    if page.name == "architecture.md":  # from here on it makes new ones; test_architecture.py follows it
        text = text.partition("## How to add")[0]
    for path in re.findall(r"\bcommon/[\w/.]*\w", text):
        assert (ROOT / path).exists(), path
    imports = re.findall(r"from (common[\w.]*) import ([\w, ]+)", text)
    dotted = re.findall(r"\bcommon(?:\.[A-Za-z_]\w*)+", text)
    dotted += [f"{package}.{name.strip()}" for package, names in imports for name in names.split(",")]
    old = MOVED if page.name == "upgrading.md" else ()
    for name in dotted:
        assert name in old or is_defined(name), name


def test_every_page_is_in_the_table_of_contents_of_the_built_docs():
    """`make docs` builds them; a page that no table of contents lists would be missed there."""
    listed = []
    for index in (ROOT / "docs" / "index.md", ROOT / "docs" / "api" / "index.md"):
        for block in re.findall(r"```{toctree}\n(.*?)```", index.read_text(), flags=re.DOTALL):
            for entry in (line for line in block.splitlines() if line and not line.startswith(":")):
                folder = ROOT if entry.startswith("/") else index.parent
                listed.append((folder / f"{entry.removeprefix('/')}.md").relative_to(ROOT))
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("bundles/*/docs/*.md")]
    assert sorted([*listed, Path("docs/index.md")]) == sorted(page.relative_to(ROOT) for page in pages)


def test_every_public_package_is_in_the_api_reference():
    public = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for file in (ROOT / "common").rglob("__init__.py")
        if "__all__" in file.read_text()
    }
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    modules = re.findall(r"\.\. automodule:: (\S+)", pages)
    assert len(set(modules)) == len(modules)
    assert public - set(modules) == set()


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module of `common` or bound in one; does not import, as some need other programs."""
    if name in {f"common.{lazy}" for lazy in LAZY}:
        return True
    file, parts = ROOT / "common", name.split(".")[1:]
    while parts and (file / parts[0]).is_dir():
        file /= parts.pop(0)
    if not parts:
        return True
    if (file / f"{parts[0]}.py").is_file():
        file = file / f"{parts.pop(0)}.py"
    else:
        file /= "__init__.py"
    bound = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.Assign):
            bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return not parts or parts[0] in bound


@pytest.mark.parametrize("page", ["fidelity", "reliability"])
def test_the_tests_that_a_page_names_exist(page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert named
    for file, function in named:
        assert (ROOT / file).is_file(), file
        assert not function or f"def {function}(" in (ROOT / file).read_text(), function


def fidelity_rows() -> list[list[str]]:
    """The cells of each row of the tables whose last column is the test."""
    rows, with_test = [], False
    for line in (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")] if line.startswith("|") else []
        if not cells:
            with_test = False
        elif cells[-1] == "test":
            with_test = True
        elif with_test and not line.startswith("|---"):
            rows.append(cells)
    return rows


def test_every_row_of_fidelity_names_its_test():
    rows = fidelity_rows()
    assert len(rows) > 100
    without = [cells[0] for cells in rows if not re.fullmatch(r"(`tests/[\w/]+\.py::test_\w+`(, )?)+", cells[-1])]
    assert without == []


def test_only_the_readings_of_one_sentence_of_a_paper_have_no_column_of_tests():
    """A table without that column would not be looked at by the test above; the page names this one's test below it."""
    lines = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8").splitlines()
    heads = [head for head, rule in itertools.pairwise(lines) if rule.startswith("|---")]
    assert len(heads) > 5
    assert [head for head in heads if not head.endswith("| test |")] == [
        "| reading | parameters | receptive field | how |"
    ]


DEMONSTRATIONS = {
    "GGCL": "ggcl",
    "KCGAN": "kcgan_kernel_conversion",
    "NEC": "nec_t1t2",
    "NECT2CECT": "nect2cect",
    "SR-CycleGAN": "sr_cyclegan",
}


@pytest.mark.parametrize("title", DEMONSTRATIONS)
def test_fidelity_lists_what_demonstrations_change(title):
    """Each setting of `demo.yaml` but the data has its row, with the values of both configs."""
    folder = ROOT / "bundles" / DEMONSTRATIONS[title] / "configs"
    train, demo = (yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("train", "demo"))
    listed = {cells[1].strip("`"): cells[2:4] for cells in fidelity_rows() if title in cells[0].split(", ")}
    for key in ("dataset_dir", "output_dir", "phantom", "make_data"):
        demo.pop(key)
    assert set(demo) <= set(listed), "rows of the demonstrations' table in docs/fidelity.md"
    for key, value in demo.items():
        for cell, stands in zip(listed[key], (train.get(key), value)):
            if cell.startswith("`") and not cell.startswith("`CompactGenerator") and (key in train or stands is value):
                assert yaml.safe_load(cell.strip("`")) == stands, key


@pytest.mark.parametrize("result", ["fuzzing", "faults"])
def test_the_figures_of_the_reliability_page_are_those_of_the_committed_results(result):
    page = (ROOT / "docs" / "reliability.md").read_text()
    figures = json.loads((ROOT / "benchmarks" / "results" / f"{result}.json").read_text())
    total = {key: figures.pop(key) for key in ("tried", "survived") if key in figures}
    kinds = {**figures["faults"], "all": total} if total else figures
    assert len(kinds) > 8
    for kind, counts in kinds.items():
        assert f"| {kind} | " + " | ".join(f"{count:,}" for count in counts.values()) + " |" in page


@pytest.mark.parametrize("verb", ["phantom", "report", "demo", "convert_ggcl"])
def test_help_names_what_a_command_takes(verb):
    done = python_m("common", [verb, "--help"])
    assert done.returncode == 0
    assert "output" in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["phantom", "heart", "--output_dir", "x"], ["'heart'", "brain"]),
        (["phantom", "brain", "--output_dir", "x", "--size", "100"], ["`size`", "multiple of 8"]),
        (["report", "no/such/folder"], ["no/such/folder"]),
        (["demo", "no_bundle"], ["nec_t1t2", "'no_bundle'"]),
    ],
)
def test_wrong_arguments_end_in_one_line(arguments, words, tmp_path):
    done = python_m("common", arguments, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "verb", "result", "bundle"),
    [
        ("compare_methods", "table", "nec_t1t2_methods", "nec_t1t2"),
        ("compare_methods", "agreement", "nec_t1t2_methods", "nec_t1t2"),
        ("compare_methods", "patients", "nec_t1t2_real", "nec_t1t2"),
        ("compare_kernels", "table", "kernels", "ggcl"),
        ("kernel_pair", "table", "kernel_pair", "ggcl"),
        ("compare_methods", "directions --metric emphysema_index", "ggcl_demo", "ggcl"),
        ("compare_methods", "table", "nect2cect_methods", "nect2cect"),
        ("misalignment", "table", "nect2cect_misalignment", "nect2cect"),
        ("compare_methods", "table", "sr_cyclegan_methods", "sr_cyclegan"),
    ],
)
def test_the_tables_of_a_page_come_from_the_committed_results(script, verb, result, bundle):
    command = [sys.executable, f"benchmarks/{script}.py", *verb.split(), f"benchmarks/results/{result}.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    page = (ROOT / "docs" / "bundles" / f"{PAGES[bundle]}.md").read_text()
    rows = [line.strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) > 4
    assert [row for row in rows if row not in page] == []
