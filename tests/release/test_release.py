"""Releases: what is in a zip, that it is the same each time, and what is refused before anything is unpacked."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from common.identity import release_name, require_release
from common.release import build_release, install_release, write_index
from common.release.build import describe_release
from tests.helpers.commands import python_m

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir())
KEPT_IN_MODELS = {"README.md", "model.pt", "network.json", "baselines.json", "filters.json", "enhancement_spread.json"}
KEPT_IN_MODELS |= {"uncertainty.json"}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_release(ROOT / "bundles" / "nec_t1t2", tmp_path_factory.mktemp("dist"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(ROOT / "bundles" / "nec_t1t2", tmp_path / "nec_t1t2")


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """In a process that has no way to this source tree but its installation."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_release_holds_one_folder_with_all_that_a_bundle_needs(name, tmp_path):
    path = build_release(ROOT / "bundles" / name, tmp_path)
    version = json.loads((ROOT / "bundles" / name / "configs" / "metadata.json").read_text())["version"]
    assert path.name == f"{name}_v{version}.zip"
    files = contents(path)
    assert {file.split("/")[0] for file in files} == {name}
    for wanted in (
        *("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/metadata.json", "configs/logging.conf"),
        *("configs/train.yaml", "configs/train.json", "configs/inference.yaml", "configs/inference.json"),
        *("configs/evaluate.yaml", "models/model.pt", "models/network.json", "common/__init__.py"),
    ):
        assert f"{name}/{wanted}" in files
    models = {file.removeprefix(f"{name}/models/") for file in files if file.startswith(f"{name}/models/")}
    assert models <= KEPT_IN_MODELS
    assert files[f"{name}/models/model.pt"] == (ROOT / "bundles" / name / "models" / "model.pt").read_bytes()
    assert not [file for file in files if "/deploy/" in file or "/release/" in file or file.endswith("demo.py")]
    outside = [file for file, data in files.items() if file.endswith(".md") and b"](../../" in data]
    assert outside == []


def test_every_config_of_a_release_imports_this_release_and_the_json_twins_say_what_the_yaml_says(release):
    files = contents(release)
    identity = json.loads(files["nec_t1t2/common/release.json"])
    wanted = f"$from common import release_{identity['version'].replace('.', '_')}_{identity['digest'][:8]} as common"
    configs = [name for name in files if name.endswith(".yaml")]
    importing = [name for name in configs if b"imports:" in files[name]]
    assert len(importing) == 2  # overlays have none
    for name in importing:
        assert wanted in yaml.safe_load(files[name])["imports"], name
    for twin in ("train", "inference"):
        assert json.loads(files[f"nec_t1t2/configs/{twin}.json"]) == yaml.safe_load(
            files[f"nec_t1t2/configs/{twin}.yaml"]
        )


def test_a_release_has_equal_bytes_each_time(release, tmp_path):
    again = build_release(ROOT / "bundles" / "nec_t1t2", tmp_path)
    assert again.read_bytes() == release.read_bytes()
    assert list(tmp_path.iterdir()) == [again]


def test_vendored_code_imports_nothing_of_ours_that_is_not_vendored(release, tmp_path):
    """By Python itself: every vendored module is imported where `common` is only the zip's."""
    with zipfile.ZipFile(release) as zipped:
        zipped.extractall(tmp_path)
    package = tmp_path / "nec_t1t2" / "common"
    modules = [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in package.rglob("*.py")]
    code = f"import importlib\nfor name in {modules!r}: importlib.import_module(name.removesuffix('.__init__'))"
    done = python(code + "\nimport common; print(common.__file__)", cwd=package.parent)
    assert done.returncode == 0, done.stderr
    assert str(package) in done.stdout


def test_the_released_package_imports_itself_by_relative_names_only():
    for path in (ROOT / "common").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] != "common", path
            if isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != "common" for alias in node.names), path


NAMED = re.compile(r"\bcommon(?:\.\w+)+")
RESOLVE = """
import ast, importlib, json, pydoc, sys
from pathlib import Path
missing, verbs = [], json.loads(Path("common/release.json").read_text())["verbs"]
for path in Path("common").rglob("*.py"):
    package, tree = path.parent.parts, ast.parse(path.read_text())
    if path.name == "__main__.py":  # commands that are not offered need not work
        tree.body = [n for n in tree.body if not isinstance(n, ast.FunctionDef) or n.name in ("main", *verbs)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                try:
                    exec(f"from {module} import {alias.name}", {})
                except ImportError as error:
                    missing.append(f"{path}: {error}")
for name in json.loads(sys.argv[1]):
    found = importlib.import_module("common")
    for part in name.split(".")[1:]:
        found = getattr(found, part)
print(json.dumps(missing))
"""


@pytest.mark.parametrize("name", BUNDLES)
def test_a_release_has_all_that_its_configs_name_and_its_own_code_imports_at_any_time(name, tmp_path):
    """By Python itself: each import of each file, also in functions, and each dotted name in a config."""
    with zipfile.ZipFile(build_release(ROOT / "bundles" / name, tmp_path)) as zipped:
        zipped.extractall(tmp_path)
    release = tmp_path / name
    configs = [*release.glob("configs/**/*.yaml"), release / "models" / "network.json"]
    texts = ["\n".join(line.partition(" #")[0] for line in path.read_text().splitlines()) for path in configs]
    named = sorted({found for text in texts for found in NAMED.findall(text)})
    assert len(named) > 40
    done = python(RESOLVE, json.dumps(named), cwd=release)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("name", BUNDLES)
def test_a_release_is_as_lean_as_its_page_says(name, tmp_path):
    (row,) = re.findall(rf"^\| `{name}` \| (.+) \|$", (ROOT / "docs" / "release.md").read_text(), flags=re.MULTILINE)
    full, thin = (build_release(ROOT / "bundles" / name, tmp_path, thin=thin) for thin in (False, True))
    with zipfile.ZipFile(full) as zipped:
        code = [entry.compress_size for entry in zipped.infolist() if entry.filename.endswith(".py")]
    measured = [full.stat().st_size / 1e3, sum(code) / 1e3, len(code), thin.stat().st_size / 1e3]
    assert [float(cell) for cell in row.split(" | ")] == pytest.approx(measured, rel=0.15)
    assert f"{len(code)} of common's {len(list((ROOT / 'common').rglob('*.py')))} files" in describe_release(full)
    assert len(code) < 2 / 3 * len(list((ROOT / "common").rglob("*.py")))


@pytest.mark.parametrize("name", BUNDLES)
def test_a_thin_release_has_no_code_and_its_configs_say_the_same(name, tmp_path):
    full, thin = (contents(build_release(ROOT / "bundles" / name, tmp_path, thin=thin)) for thin in (False, True))
    thin = {file.replace(f"{name}_thin/", f"{name}/", 1): data for file, data in thin.items()}
    assert {file for file in full if f"{name}/common/" not in file} == set(thin)
    for file in (file for file in thin if file.endswith(".yaml")):
        restored = thin[file].decode().replace('_requires_: "@common", ', "").replace("@common.", "common.")
        lines = [line for line in restored.splitlines() if not line.startswith("common:")]
        text = re.sub(r'_requires_: "@common"\n\s*', "", "\n".join(lines))
        assert yaml.safe_load(text) == yaml.safe_load((ROOT / "bundles" / file).read_text()), file
    for twin in ("train", "inference"):
        parsed = yaml.safe_load(thin[f"{name}/configs/{twin}.yaml"])
        assert json.loads(thin[f"{name}/configs/{twin}.json"]) == parsed
        assert parsed["common"].startswith("$")


def test_what_a_release_left_out_is_refused_with_its_cure(release, tmp_path):
    with zipfile.ZipFile(release) as zipped:
        zipped.extractall(tmp_path)
    code = """
import common, common.methods, common.networks
from monai.bundle import ConfigParser
assert not hasattr(common.methods, "absent")
for call in (lambda: common.methods.UNIT, lambda: common.leaderboard, lambda: common.engines.TileInferer,
             lambda: ConfigParser({"x": {"_target_": "common.methods.UNIT"}}).get_parsed_content("x")):
    try:
        call()
    except Exception as error:
        while error:
            if "not in this release" in str(error):
                print(error)
                break
            error = error.__cause__ or error.__context__
"""
    done = python(code, cwd=tmp_path / "nec_t1t2")
    assert done.returncode == 0, done.stderr
    names = ("methods.UNIT", "leaderboard", "inference.TileInferer", "methods.UNIT")
    for line, name in zip(done.stdout.splitlines(), names, strict=True):
        assert line.startswith(f"common.{name} is not in this release ({tmp_path / 'nec_t1t2'})")
        assert line.endswith("install the wheel of monai-translation-bundles 0.1.0, which has all of `common`.")


def test_a_release_has_the_commands_of_its_page(release, tmp_path):
    with zipfile.ZipFile(release) as zipped:
        zipped.extractall(tmp_path)
    done = python("import sys; from common.__main__ import main; main()", "--help", cwd=tmp_path / "nec_t1t2")
    shown = done.stdout + done.stderr
    assert "report" in shown
    assert "leaderboard" not in shown
    page = contents(release)["nec_t1t2/docs/README.md"].decode()
    assert set(re.findall(r"^python -m common (\w+)", page, flags=re.MULTILINE)) == {"report"}


def change_metadata(bundle: Path, **changes: object) -> None:
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil_pickle(bundle: Path) -> None:
    torch.save({"network": os.system}, bundle / "models" / "model.pt")


def spoil_nested(bundle: Path) -> None:
    torch.save({"state": {"weight": torch.zeros(1)}}, bundle / "models" / "model.pt")


def spoil_pair(bundle: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, bundle / "models" / "model.pt")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda b: change_metadata(b, version="9.9.9"), ValueError, "`changelog` must have an entry of `version` '9"),
        (lambda b: (b / "configs" / "metadata.json").unlink(), FileNotFoundError, "must be a bundle's folder"),
        (lambda b: (b / "models" / "model.pt").unlink(), FileNotFoundError, "train the bundle"),
        (lambda b: (b / "models" / "network.json").unlink(), FileNotFoundError, "train the bundle"),
        (spoil_pickle, ValueError, "must be a file of plain tensors"),
        (spoil_nested, ValueError, "must be a flat dict of tensors"),
        (spoil_pair, ValueError, "Copy both from one training"),
        (lambda b: (b / "docs" / "x.bin").write_bytes(bytes(26 << 20)), ValueError, "25 MB, but docs/x.bin"),
        (lambda b: (b / "large_files.yml").write_text("large_files: [{path: models/model.pt}]"), ValueError,
         "each entry must have path, url, hash_val, hash_type"),
        (lambda b: (b / "large_files.yml").write_text(
            "large_files: [{path: ../x, url: u, hash_val: a, hash_type: md5}]"), ValueError, "must lie in the bundle"),
        (lambda b: (b / "large_files.yml").write_text(
            "large_files: [{path: models/model.pt, url: u, hash_val: abc, hash_type: sha256}]"), ValueError,
         "models/model.pt must have the sha256 abc"),
    ],
)  # fmt: skip
def test_a_bundle_that_cannot_be_released_leaves_no_zip(spoil, error, message, bundle, tmp_path):
    spoil(bundle)
    with pytest.raises(error, match=message):
        build_release(bundle, tmp_path / "dist")
    assert not (tmp_path / "dist").exists() or not list((tmp_path / "dist").iterdir())


def test_a_name_that_monai_would_split_is_refused(bundle):
    renamed = bundle.rename(bundle.with_name("nec_volume"))
    with pytest.raises(ValueError, match="must not contain '_v'"):
        build_release(renamed, bundle.parent)


def test_large_files_come_from_their_address_with_their_checksum(bundle, tmp_path):
    weights = (bundle / "models" / "model.pt").rename(tmp_path / "weights.pt")
    entry = {"path": "models/model.pt", "url": weights.as_uri(), "hash_type": "sha256"}
    entry["hash_val"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (bundle / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}))
    files = contents(build_release(bundle, tmp_path / "dist"))
    assert files["nec_t1t2/models/model.pt"] == weights.read_bytes()
    entry["hash_val"] = "0" * 64
    (bundle / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}))
    with pytest.raises(ValueError, match="the file was changed"):
        build_release(bundle, tmp_path / "other")


def test_the_index_lists_each_zip_with_its_address_and_checksum(release, tmp_path):
    copy = Path(shutil.copy(release, tmp_path))
    (tmp_path / "notes.zip").touch()
    entries = json.loads(write_index(tmp_path, base_url="https://example.org/r/").read_text())
    assert entries == {
        copy.stem: {
            "checksum": hashlib.sha256(copy.read_bytes()).hexdigest(),
            "hash_type": "sha256",
            "source": f"https://example.org/r/{copy.name}",
        }
    }
    with pytest.raises(FileNotFoundError, match="must hold releases"):
        write_index(tmp_path / "nothing")


def test_an_installed_release_is_what_was_zipped(release, tmp_path):
    index = tmp_path / "index.json"
    index.write_text(json.dumps({release.stem: {"checksum": hashlib.sha256(release.read_bytes()).hexdigest()}}))
    folder = install_release(release, tmp_path / "bundles", index=index)
    assert folder == tmp_path / "bundles" / "nec_t1t2"
    found = {f"nec_t1t2/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == contents(release)
    assert list((tmp_path / "bundles").iterdir()) == [folder]
    with pytest.raises(FileExistsError, match="Remove it"):
        install_release(release, tmp_path / "bundles")


def rezipped(release: Path, path: Path, change: dict[str, bytes | None], link: str | None = None) -> Path:
    """The release with entries replaced, added or (None) left out."""
    files = contents(release) | change
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in files.items():
            if data is not None:
                zipped.writestr(name, data)
        if link is not None:
            entry = zipfile.ZipInfo(link)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            zipped.writestr(entry, "/etc/passwd")
    return path


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nec_t1t2/../../evil.py": b"x"}, r"leads out of its folder, 'nec_t1t2/\.\./\.\./evil\.py'"),
        ({"/tmp/evil.py": b"x"}, "a member with an absolute path"),
        ({"nec_t1t2\\..\\..\\evil.py": b"x"}, "leads out of its folder"),
        ({"C:/evil.py": b"x"}, "leads out of its folder"),
        ({"other/evil.py": b"x"}, r"must have one top folder, the bundle's name, got \['nec_t1t2', 'other'\]"),
        ({"nec_t1t2/models/model.pt": saved({"network": os.system})}, "must be a file of plain tensors"),
        ({"nec_t1t2/models/last.pt": saved({"network": os.system})}, "models/last.pt in .* must be a file of plain"),
        ({"nec_t1t2/models/model.pt": saved([1])}, "must be a flat dict of tensors"),
        ({"nec_t1t2/configs/metadata.json": None}, "configs/metadata.json is not in it"),
    ],
)
def test_an_archive_that_is_not_as_it_must_be_is_refused_before_anything_is_unpacked(
    change, message, release, tmp_path
):
    path = rezipped(release, tmp_path / "spoilt.zip", change)
    with pytest.raises(ValueError, match=message):
        install_release(path, tmp_path / "bundles")
    assert {p.name for p in tmp_path.iterdir()} == {"spoilt.zip"}


def test_a_link_a_changed_checksum_and_a_file_that_is_no_zip_are_refused(release, tmp_path):
    linked = rezipped(release, tmp_path / "linked.zip", {}, link="nec_t1t2/docs/link")
    with pytest.raises(ValueError, match="has a link, 'nec_t1t2/docs/link'"):
        install_release(linked, tmp_path / "bundles")
    with pytest.raises(ValueError, match="must have the SHA-256 00FF, but has"):
        install_release(release, tmp_path / "bundles", checksum="00FF")
    (tmp_path / "index.json").write_text('{"other_v1": {"checksum": "00"}}')
    with pytest.raises(FileNotFoundError, match=r"has no entry 'nec_t1t2_v0\.1\.0'; it has other_v1"):
        install_release(release, tmp_path / "bundles", index=tmp_path / "index.json")
    (tmp_path / "no.zip").write_bytes(b"no")
    with pytest.raises(ValueError, match="must be a zip"):
        install_release(tmp_path / "no.zip", tmp_path / "bundles")
    with pytest.raises(FileNotFoundError, match="is not there"):
        install_release(tmp_path / "nothing.zip", tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


def test_two_releases_in_one_process_are_told_with_both_versions_and_places(release, tmp_path):
    """The first bundle's `common` stays imported; the second bundle needs its own."""
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder in (first, second):
        with zipfile.ZipFile(release) as zipped:
            zipped.extractall(folder)
    common = second / "nec_t1t2" / "common"
    facts = json.loads((common / "release.json").read_text())
    (common / "release.json").write_text(json.dumps({"version": "0.2.0", "digest": "f" * 64}))
    name = f"release_{facts['version'].replace('.', '_')}_{facts['digest'][:8]}"
    for config in (second / "nec_t1t2" / "configs").glob("inference.*"):
        config.write_text(config.read_text().replace(name, "release_0_2_0_ffffffff"))
    code = """
import sys
from monai.bundle import ConfigWorkflow
for root in sys.argv[1:]:
    workflow = ConfigWorkflow(root + "/configs/inference.yaml", workflow_type="infer", bundle_root=root,
                              run=["$common.preflight.check()"])
    workflow.initialize()
    workflow.run()
    print("ran", root)
"""
    roots = [str(folder / "nec_t1t2") for folder in (first, second)]
    done = python(code, *roots, cwd=tmp_path)
    assert f"ran {roots[0]}" in done.stdout, done.stderr[-3000:]
    assert done.returncode != 0
    for part in ("0.2.0 (ffffffff)", str(common), f"{facts['version']} ({facts['digest'][:8]})",
                 str(first / "nec_t1t2" / "common"), "cannot share a process"):  # fmt: skip
        assert part in done.stderr, (part, done.stderr[-3000:])
    alone = python(code, roots[1], cwd=tmp_path)
    assert f"ran {roots[1]}" in alone.stdout, alone.stderr[-3000:]


def test_an_installed_common_serves_a_release_of_its_version_and_no_other():
    """This source tree has no digest; its version must agree."""
    require_release(release_name("1.2.3", "f" * 64), "1.2.3")
    with pytest.raises(ImportError, match=r"needs `common` 1\.2\.3 \(ffffffff\) .* but `common` 1\.2\.4 of"):
        require_release(release_name("1.2.3", "f" * 64), "1.2.4")


def test_the_command_line_builds_indexes_and_installs(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return python_m("common", arguments)

    dist, bundles = str(tmp_path / "dist"), str(tmp_path / "bundles")
    assert run("release", "bundles/nec_t1t2", "bundles/sr_cyclegan", "--output_dir", dist).returncode == 0
    assert run("release_index", dist).returncode == 0
    archive, index = f"{dist}/nec_t1t2_v0.1.0.zip", f"{dist}/model_info.json"
    assert run("install", archive, "--bundle_dir", bundles, "--index", index).returncode == 0
    refused = run("install", archive, "--bundle_dir", bundles)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
