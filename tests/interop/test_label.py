"""MONAI Label serves the five releases: a real server, a real HTTP client, and the command line's output."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from tests.helpers.shared import require_shared

from .conftest import BUNDLES, ROOT
from .label_server import Answer, Client, serving

pytestmark = pytest.mark.interop

KERNELS = ["B30f", "B50f", "B70f"]
SERIES = "LIDC-IDRI-0314"  # its name in the studies
CASES: dict[str, tuple[str, dict[str, Any]]] = {  # by bundle: an image of the studies, and parameters
    "ggcl": ("chest_0005_B30f", {"target": "B70f", "source": "B30f"}),
    "kcgan_kernel_conversion": ("chest_0005_B30f", {"target": "B50f", "source": "B30f"}),
    "nec_t1t2": ("brain_0005_T1", {}),
    "nect2cect": ("abdomen_0004_NECT", {}),
    "sr_cyclegan": ("lung_0003_clinical", {"region": "all", "compress": True}),
}
SMALL_KERNEL = {
    "samples_per_epoch": 2,
    "batch_size": 2,
    "image_size": 128,
    "channels": 8,
    "num_res_blocks": 1,
    "discriminator_channels": 4,
    "validation_slices": 1,
}
TRAINING: dict[str, dict[str, Any]] = {
    "ggcl": SMALL_KERNEL,
    "kcgan_kernel_conversion": SMALL_KERNEL,
    "nec_t1t2": {"batch_size": 2, "image_size": 64, "val_interval": 1, "overlays": ["tiny"]},
    "nect2cect": {
        "classifier_epochs": 1,
        "image_size": 64,
        "spacing_mm": [5.3333, 5.3333],
        "channels": [8, 8],
        "spade_channels": 4,
        "classifier_width": 2,
        "discriminator_channels": [8, 8],
    },
    "sr_cyclegan": {
        "samples_per_epoch": 2,
        "batch_size": 2,
        "patch_size": 12,
        "mask_key": None,  # the phantom's names say nothing of lung masks
        "channels": 8,
        "num_res_blocks": 1,
        "discriminator_channels": 4,
        "target_discriminator_layers": 1,
        "source_discriminator_layers": 1,
    },
}
TINY = """
network_def: {_target_: common.networks.CompactGenerator, channels: [8, 8], num_res_units: 1}
discriminator_def#num_scales: 1
discriminator_def#num_layers: 2
discriminator_def#channels: 4
"""


@pytest.fixture(scope="module")
def app(environment, unpacked, tmp_path_factory) -> Path:
    """Made by the documented command, with copies of the releases."""
    folder = tmp_path_factory.mktemp("label") / "app"
    command = [environment("label"), "-m", "common.deploy.monailabel", folder, *unpacked.values()]
    made = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=folder.parent)
    assert made.returncode == 0, made.stderr
    (folder / "bundles" / "nec_t1t2" / "configs" / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """Two slices of a chest CT."""
    archive = require_shared("data", "dicom", "lidc_idri_0314_12slices.zip")
    folder = tmp_path_factory.mktemp("dicom") / SERIES
    folder.mkdir()
    with zipfile.ZipFile(archive) as file:
        for name in sorted(name for name in file.namelist() if name.endswith(".dcm"))[:2]:
            (folder / Path(name).name).write_bytes(file.read(name))
    return folder


@pytest.fixture(scope="module")
def studies(phantoms, series, tmp_path_factory) -> Path:
    """The phantoms' images in one folder, called <patient>_<domain>, and a folder of DICOM files."""
    folder = tmp_path_factory.mktemp("studies")
    for data in phantoms.values():
        for image in (data / "images").glob("*.nii.gz"):
            shutil.copy(image, folder)
    shutil.copytree(series, folder / SERIES)
    return folder


@pytest.fixture(scope="module")
def server(environment, app, studies) -> Iterator[Client]:
    with serving(environment("label"), app, studies, app.parent) as client:
        yield client


def command_line(bundle: Path, image: Path, output_dir: Path, **overrides: Any) -> nib.Nifti1Image:
    """The only volume of `command_line_files`."""
    (path,) = command_line_files(bundle, image, output_dir, **overrides)
    return nib.load(path)


def command_line_files(bundle: Path, image: Path, output_dir: Path, **overrides: Any) -> list[Path]:
    """The volumes of the workflow that `python -m monai.bundle run inference` runs, in the core environment."""
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.yaml"),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(image),
        output_dir=str(output_dir),
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    return [path for path in output_dir.rglob("*") if path.name.endswith((".nii", ".nii.gz"))]


def volume(answer: Answer, folder: Path) -> nib.Nifti1Image:
    assert answer.status == 200, answer.body
    path = folder / "answer.nii.gz"
    path.write_bytes(answer.body)
    return nib.Nifti1Image.from_bytes(path.read_bytes()) if answer.body[:2] != b"\x1f\x8b" else nib.load(path)


def assert_equal(image: nib.Nifti1Image, expected: nib.Nifti1Image) -> None:
    """Voxel for voxel, in the same type, at the same place."""
    assert image.get_data_dtype() == expected.get_data_dtype()
    np.testing.assert_array_equal(image.affine, expected.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj))


def test_info_lists_five_models_that_segment_nothing_and_their_choices(server):
    info = server.call("/info/").json
    assert sorted(info["models"]) == sorted(info["trainers"]) == sorted(BUNDLES)
    for name, model in info["models"].items():
        assert model["type"] == "others"
        assert model["labels"] == {}
        assert "RESEARCH USE ONLY" in model["description"]
        assert model["config"].get("target") == (KERNELS if name in ("ggcl", "kcgan_kernel_conversion") else None)
    assert info["models"]["sr_cyclegan"]["config"]["region"] == "lung"
    assert info["trainers"]["nec_t1t2"]["config"]["max_epochs"] == 400
    assert "RESEARCH USE ONLY" in info["description"]


def test_the_datastore_lists_volumes_and_series_and_gives_them_back(server, studies):
    listed = server.call("/datastore/", query={"output": "all"}).json["objects"]
    assert {image for image, _ in CASES.values()} | {SERIES} <= set(listed)
    assert server.call("/datastore/").json["total"] == len(listed) == len(list(studies.glob("*.nii.gz"))) + 1
    image = server.call("/datastore/image", query={"image": "brain_0005_T1"})
    assert image.body == (studies / "brain_0005_T1.nii.gz").read_bytes()
    packed = server.call("/datastore/image", query={"image": SERIES})
    assert (packed.status, packed.kind) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(packed.body)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {path.name: path.read_bytes() for path in (studies / SERIES).iterdir()}
    assert server.call("/datastore/image", method="HEAD", query={"image": SERIES}).status == 200
    for method in ("GET", "HEAD"):
        assert server.call("/datastore/image", method=method, query={"image": "nobody"}).status == 404


@pytest.mark.parametrize("bundle", BUNDLES)
def test_infer_by_id_gives_the_command_lines_volume(server, unpacked, studies, bundle, tmp_path):
    name, params = CASES[bundle]
    source = studies / f"{name}.nii.gz"
    answer = volume(server.infer(bundle, image=name, params=params), tmp_path)
    assert_equal(answer, command_line(unpacked[bundle], source, tmp_path / "out", **params))
    assert answer.get_data_dtype() == (np.float32 if bundle == "nec_t1t2" else np.int16)
    assert len(np.unique(np.asarray(answer.dataobj))) > 100  # no label map
    if bundle != "sr_cyclegan":
        np.testing.assert_allclose(answer.affine, nib.load(source).affine, atol=1e-5)


@pytest.mark.parametrize("bundle", ["ggcl", "kcgan_kernel_conversion"])
def test_three_targets_give_three_volumes(server, unpacked, studies, bundle, tmp_path):
    name, _ = CASES[bundle]
    found = {}
    for target in KERNELS:
        (tmp_path / target).mkdir()
        params = {"target": target, "source": "B30f"}
        found[target] = volume(server.infer(bundle, image=name, params=params), tmp_path / target)
        expected = command_line(unpacked[bundle], studies / f"{name}.nii.gz", tmp_path / target / "out", **params)
        assert_equal(found[target], expected)
    pixels = [np.asarray(image.dataobj, dtype=float) for image in found.values()]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(pixels[one] - pixels[other]).max() > 1  # HU


def test_an_upload_keeps_its_own_orientation(server, unpacked, studies, tmp_path):
    image = nib.load(studies / "brain_0005_T1.nii.gz")
    axes = nib.orientations.axcodes2ornt(("P", "R", "I"))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), axes))
    nib.save(turned, tmp_path / "my.scan.nii.gz")
    answer = volume(server.infer("nec_t1t2", file=tmp_path / "my.scan.nii.gz"), tmp_path)
    np.testing.assert_allclose(answer.affine, turned.affine, atol=1e-5)
    assert answer.shape == turned.shape
    assert_equal(answer, command_line(unpacked["nec_t1t2"], tmp_path / "my.scan.nii.gz", tmp_path / "out"))


def test_the_whole_answer_says_what_made_the_volume(server):
    answer = server.call(
        "/infer/ggcl", method="POST", query={"image": "chest_0005_B30f"}, fields={"params": '{"source": "B30f"}'}
    )
    assert answer.status == 200
    assert answer.kind.startswith("multipart/form-data")
    for part in (b"RESEARCH USE ONLY", b'"target": "B30f"', b'"weights_sha256"', b"_synthetic_B30f"):
        assert part in answer.body


def test_the_answer_passes_the_uncertainty_on(server, unpacked, studies, tmp_path):
    params = {"target": "B70f", "source": "B30f", "uncertainty": True}
    fields, name = {"params": json.dumps(params)}, "chest_0005_B30f"
    answer = server.call("/infer/ggcl", method="POST", query={"image": name}, fields=fields)
    assert answer.status == 200
    for part in (b'"mean_half_width"', b"nothing is promised", b"_synthetic_B70f"):
        assert part in answer.body
    found = volume(server.infer("ggcl", image=name, params={**params, "uncertainty": "map"}), tmp_path)
    made = command_line_files(unpacked["ggcl"], studies / f"{name}.nii.gz", tmp_path / "out", **params)
    (expected,) = (path for path in made if path.name.endswith("_uncertainty.nii.gz"))
    assert_equal(found, nib.load(expected))
    refused = server.infer("ggcl", image=name, params={**params, "uncertainty": "often"})
    assert (refused.status, "must be false, true or 'map'" in refused.json["detail"]) == (400, True)


def test_a_dicom_series_of_the_studies_or_in_an_upload_gives_the_command_lines_volume(
    server, unpacked, series, tmp_path
):
    params = {"target": "B70f", "source": "B30f"}
    expected = command_line(unpacked["ggcl"], series, tmp_path / "out", **params)
    assert_equal(volume(server.infer("ggcl", image=SERIES, params=params), tmp_path), expected)
    archive = Path(shutil.make_archive(str(tmp_path / "series"), "zip", series.parent))
    assert_equal(volume(server.infer("ggcl", file=archive, params=params), tmp_path), expected)


def test_a_dicom_series_in_a_session_is_translated(server, unpacked, series, tmp_path):
    archive = require_shared("data", "dicom", "ibsi_STS_019_MR_T1.zip")
    session = server.call("/session/", method="PUT", query={"uncompress": "true"}, files={"files": archive}).json
    refused = server.infer("nec_t1t2", session_id=session["session_id"], params={"target": "T2"})
    assert (refused.status, "is not a parameter of" in refused.json["detail"]) == (400, True)
    answer = volume(server.infer("nec_t1t2", session_id=session["session_id"]), tmp_path)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "series")
    (folder,) = {path.parent for path in (tmp_path / "series").rglob("*.dcm")}
    assert_equal(answer, command_line(unpacked["nec_t1t2"], folder, tmp_path / "out"))


def test_an_image_is_put_into_the_datastore_translated_and_removed(server, series, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "series"), "zip", series.parent))
    put = server.call("/datastore/image", method="PUT", query={"image": "patients/new"}, files={"file": archive})
    assert put.json == {"image": "patients/new"}
    assert "patients/new" in server.call("/datastore/", query={"output": "all"}).json["objects"]
    assert server.infer("ggcl", image="patients/new", params={"source": "B30f"}).status == 200
    assert server.call("/datastore/image", method="DELETE", query={"id": "patients/new"}).status == 200
    assert "patients/new" not in server.call("/datastore/", query={"output": "all"}).json["objects"]


CHEST = {"image": "chest_0005_B30f"}
REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "unknown target": ("ggcl", {**CHEST, "params": {"target": "B99"}}, 400, "one of the domains B30f, B50f, B70f, got"),
    "misspelt": ("ggcl", {**CHEST, "params": {"tarqet": "B30f"}}, 400, "Did you mean 'target'?"),
    "of another model": ("ggcl", {**CHEST, "params": {"slab": [0, 1]}}, 400, "'slab' is not a parameter of 'ggcl'"),
    "a target where there is one": ("nec_t1t2", {**CHEST, "params": {"target": "T2"}}, 400, "is not a parameter of"),
    "code": ("ggcl", {**CHEST, "params": {"target": "$print(1)"}}, 400, "must hold names and numbers"),
    "no JSON": ("ggcl", {**CHEST, "params": "target=B30f"}, 400, "`params` must be JSON"),
    "unknown model": ("unet", CHEST, 404, "There is no model 'unet'; this server has"),
    "unknown image": ("ggcl", {"image": "nobody"}, 404, "The datastore has no image 'nobody'"),
    "a path of the server": ("ggcl", {"image": __file__}, 400, "`image` must be one name"),
    "a path in the parameters": ("ggcl", {**CHEST, "params": {"image": __file__}}, 400, "`image` must be one name"),
    "a label elsewhere": (
        "ggcl",
        {**CHEST, "params": {"save_label": True, "label_tag": "../../app"}},
        400,
        "`label_tag` must be one name",
    ),
    "another session": ("ggcl", {"session_id": "../sessions"}, 400, "`session_id` must be one name"),
    "aliases": ("ggcl", {**CHEST, "params": {"target": "[&a B30f, *a]"}}, 400, "must not have aliases"),
    "nested": ("ggcl", {**CHEST, "params": "[" * 50_000}, 400, "`params` must be JSON"),
    "a list": ("ggcl", {**CHEST, "params": "[1]"}, 400, "`params` must be a JSON object"),
    "a batch of millions": ("ggcl", {**CHEST, "params": {"batch_size": 10**9}}, 400, "from 1 to 64"),
    "slab beyond": (
        "sr_cyclegan",
        {"image": "lung_0003_clinical", "params": {"region": "all", "slab": [7, 9]}},
        400,
        "sla",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_gets_its_reason_and_the_server_lives_on(server, case):
    model, request, status, words = REFUSED[case]
    answer = server.infer(model, **request)
    assert (answer.status, words in answer.json["detail"]) == (status, True), answer.body
    assert server.call("/info/").status == 200


@pytest.mark.parametrize("name", ["words.txt", "words.nii.gz", "words.dcm", "words.zip", "half.nii.gz", "label.nii.gz"])
def test_an_upload_that_is_no_image_gets_its_reason_and_the_server_lives_on(server, studies, name, tmp_path):
    file = tmp_path / name
    file.write_bytes(b"not an image")
    if name == "half.nii.gz":
        whole = (studies / "chest_0005_B30f.nii.gz").read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    if name == "label.nii.gz":
        nib.save(nib.Nifti1Image(np.tri(32, dtype=np.uint8)[..., None], np.eye(4)), file)
    answer = server.infer("ggcl", file=file)
    reasons = ("is not an image", "is not a readable NIfTI", "cannot be read", "looks like a label map", "is damaged")
    assert answer.status == 400
    assert any(reason in answer.json["detail"] for reason in reasons)
    assert server.call("/info/").status == 200


def test_a_folder_of_the_studies_is_not_replaced_by_an_upload(server, studies, tmp_path):
    file = Path(shutil.copy(studies / "chest_0005_B30f.nii.gz", tmp_path))
    answer = server.call("/datastore/image", method="PUT", query={"image": SERIES}, files={"file": file})
    assert (answer.status, "have a folder" in answer.json["detail"]) == (400, True)
    assert len(list((studies / SERIES).iterdir())) == 2


def test_an_upload_stays_below_the_studies(server, studies, tmp_path):
    file = shutil.copy(studies / "chest_0005_B30f.nii.gz", tmp_path)
    answer = server.call("/datastore/image", method="PUT", query={"image": "../out"}, files={"file": Path(file)})
    assert answer.status == 400
    assert "`image` must be one name" in answer.json["detail"]


def test_a_label_stays_below_its_folder_and_code_stays_as_it_is(server, app, studies, tmp_path):
    """With this request a client replaced a bundle's config, which is code."""
    config = app / "bundles" / "ggcl" / "configs" / "inference.yaml"
    before = config.read_bytes()
    (tmp_path / "own.yaml").write_text("run: $print()")
    up = "/".join([".."] * 2 + [str(config.parent.relative_to(app.parent))])
    for tag in (up, str(config.parent), "..", ".hidden", "a\\b", "a\0b", "%2e%2e", "a" * 200):
        query = {"image": "chest_0005_B30f", "tag": tag}
        answer = server.call("/datastore/label", method="PUT", query=query, files={"label": tmp_path / "own.yaml"})
        assert (answer.status, "`tag` must be one name" in answer.json["detail"]) == (400, True)
    query["tag"] = "final"
    assert (
        server.call("/datastore/label", method="PUT", query=query, files={"label": tmp_path / "own.yaml"}).status == 200
    )
    assert config.read_bytes() == before
    assert {path.parent for path in studies.rglob("chest_0005_B30f*")} <= {studies, studies / "labels" / "final"}
    assert server.call("/datastore/label", method="DELETE", query={"id": query["image"], "tag": "final"}).status == 200


def test_a_packed_session_stays_below_its_folder(server, app, tmp_path):
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "evil", "../../evil")
    files = {"files": tmp_path / "a.tar"}
    answer = server.call("/session/", method="PUT", query={"uncompress": "true"}, files=files)
    assert (answer.status, "The zip cannot be unpacked" in answer.json["detail"]) == (400, True)
    assert list(app.parent.rglob("evil")) == []


def test_weights_code_and_other_addresses_are_closed_to_clients(server, app, tmp_path):
    weights = app / "bundles" / "ggcl" / "models" / "model.pt"
    before = weights.read_bytes()
    (tmp_path / "model.pt").write_bytes(b"mine")
    assert server.call("/model/ggcl", method="PUT", files={"file": tmp_path / "model.pt"}).status == 403
    for method, path in (("DELETE", "/model/ggcl"), ("POST", "/reload"), ("GET", "/proxy/dicom/x")):
        assert server.call(path, method=method).status == 403
    assert weights.read_bytes() == before


@pytest.mark.parametrize("query", [{}, {"run_sync": "true"}])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"max_epochz": 1}, "Did you mean 'max_epochs'?"),
        ({"overlays": ["../../main"]}, "`overlays` must name files in ggcl/configs"),
        ({"bundle_path": "/tmp"}, "`bundle_path` is not a parameter"),
        ([1], "`body` must be a JSON object"),
    ],
)
def test_a_training_that_cannot_start_gets_its_reason(server, query, body, words):
    answer = server.call("/train/ggcl", method="POST", query=query, body=body)
    assert (answer.status, words in answer.json["detail"]) == (400, True), answer.body


def test_training_an_unknown_model_is_refused(server):
    answer = server.call("/train/unet", method="POST", body={})
    assert (answer.status, "There is no model 'unet'" in answer.json["detail"]) == (404, True)


def code(language: str) -> list[str]:
    """The code blocks of docs/monai_label.md."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "monai_label.md").read_text(), flags=re.DOTALL)


def test_the_pages_requests_run_as_they_are_written(server, environment, studies, series, tmp_path):
    """In order; the training is stopped at its start."""
    shutil.copy(studies / "brain_0005_T1.nii.gz", tmp_path / "T1.nii.gz")
    shutil.copy(studies / "chest_0005_B30f.nii.gz", tmp_path / "scan.nii.gz")
    shutil.make_archive(str(tmp_path / "series"), "zip", series.parent)
    lines = [line for block in code("bash") for line in block.splitlines() if line.startswith("curl ")]
    lines += [f"{environment('label')} -c {shlex.quote(code('python')[0])}"]
    for line in lines:
        line = line.replace("http://127.0.0.1:8000", server.address).replace("image=ID", "image=chest_0005_B30f")
        done = subprocess.run(shlex.split(line), cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (line, done.stderr)
        assert '"detail"' not in done.stdout
    assert server.call("/train/").json["status"] == "STOPPED"
    for name, dtype in (("b70f", np.int16), ("t2", np.float32), ("b30f", np.int16)):
        assert nib.load(tmp_path / f"{name}.nii.gz").get_data_dtype() == dtype


def test_nothing_stays_in_the_temporary_folder(server, app):
    assert [path.name for path in (app.parent / "tmp").rglob("*.nii*")] == []


def test_the_server_trains_all_five_and_infers_with_the_new_weights(server, app, studies, tmp_path):
    """Last, as it replaces the weights of the app's copies."""
    ours = []
    for name, params in TRAINING.items():
        started = server.call(
            f"/train/{name}", method="POST", query={"enqueue": "true"}, body={"max_epochs": 1, **params}
        )
        assert started.json["status"] == "SUBMITTED"
        ours.append(started.json["id"])
    deadline = time.monotonic() + 600
    tasks: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        tasks = [task for task in server.call("/train/", query={"all": "true"}).json if task["id"] in ours]
        if all(task["status"] in ("DONE", "ERROR") for task in tasks):
            break
        time.sleep(1)
    for task in tasks:
        assert task["status"] == "DONE", (task["request"], task.get("details"))
    statistics = server.call("/info/").json["train_stats"]
    for name, (image, params) in CASES.items():
        assert statistics[name]["training_data"]["name"] == "studies of a MONAI Label server"
        (tmp_path / name).mkdir()
        answer = volume(server.infer(name, image=image, params=params), tmp_path / name)
        bundle, source = app / "bundles" / name, studies / f"{image}.nii.gz"
        assert_equal(answer, command_line(bundle, source, tmp_path / name / "out", **params))
