"""MONAI Deploy as the SDK's users run it: a DICOM folder in, a derived series out, the command line's pixels."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ParametricMapStorage, generate_uid

import common
from tests.helpers.pages import commands
from tests.helpers.shared import require_shared

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "monai_deploy.md"
CASES = {  # bundle: phantom, domain of its source, command of the page, what is appended to it
    "ggcl": ("chest", "B30f", 1, {}),
    "kcgan_kernel_conversion": ("chest", "B30f", 0, {"target": "B50f", "series": "B30f"}),
    "nect2cect": ("abdomen", "NECT", 0, {}),
    "sr_cyclegan": ("lung", "clinical", 2, {}),
    "nec_t1t2": ("brain", "T1", 0, {}),
}
COMMAND_LINE = {
    "ggcl": {"target": "B70f"},
    "kcgan_kernel_conversion": {"target": "B50f"},
    "sr_cyclegan": {"region": "all"},
}
# Attributes that `dciodvfy` of 2022 does not know yet: Synthetic Data came into the standard after it.
TOO_NEW = "not a recognized standard attribute - (0x0008,0x001c)"


def started(command, cwd, **given):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **given}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)


def app(python, bundle, dicom, output, line=0, **options):
    """A command of docs/monai_deploy.md, and options appended to it, from the folder of the bundles."""
    words = {"DICOM_FOLDER": dicom, "OUT": output, "BUNDLE_FOLDER": bundle}
    command = [words.get(word, word) for word in shlex.split(commands(PAGE)[line])[1:]]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    return started([str(part) for part in [python, *command]], cwd=bundle.parent)


def command_line(bundle, dicom, output, given):
    """The volume that `python -m monai.bundle run inference` makes, in the core environment."""
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", "configs/inference.yaml"]
    command += ["--bundle_root", ".", "--dataset_dir", str(dicom), "--output_dir", str(output)]
    command += [part for name, value in given.items() for part in (f"--{name}", str(value))]
    done = started(command, cwd=bundle)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = output.rglob("*.nii*")
    return nib.load(path)


def images_in(output):
    (folder,) = (path for path in output.iterdir() if path.is_dir())
    assert json.loads(folder.with_name(f"{folder.name}.json").read_text())["verdict"] in ("passed", "warned")
    return [dcmread(path) for path in sorted(folder.iterdir())]


def errors_of(folder):
    """The `Error` lines of an independent checker, dciodvfy of dicom3tools."""
    assert shutil.which("dciodvfy"), "dciodvfy is not there: environments/deploy.sh installs dicom3tools"
    lines = set()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".json":
            done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
            lines |= {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}
    return {line for line in lines if TOO_NEW not in line}


def check_pixels(images, volume):
    """Each image is the slice of the NIfTI volume that lies at its place; MR within half a step."""
    to_index = np.linalg.inv(volume.affine)
    data = np.asarray(volume.dataobj, dtype=np.float64)
    assert len(images) == data.shape[2]
    for image in images:
        assert (image.BitsAllocated, image.BitsStored) == (16, 16)
        slope = float(image.RescaleSlope)
        stored = image.pixel_array * slope + float(image.RescaleIntercept)
        rows, columns = stored.shape
        along_row, along_column = np.reshape(np.array(image.ImageOrientationPatient, float), (2, 3))
        corner = np.array(image.ImagePositionPatient, float)
        last = corner + (columns - 1) * float(image.PixelSpacing[1]) * along_row
        last = last + (rows - 1) * float(image.PixelSpacing[0]) * along_column
        ends = [(to_index @ [-x, -y, z, 1])[:3] for x, y, z in (corner, last)]
        np.testing.assert_allclose(ends, np.round(ends), atol=0.01)
        (i0, j0, k), (i1, j1, _) = np.round(ends).astype(int)
        across = np.arange(i0, i1 + np.sign(i1 - i0), np.sign(i1 - i0))
        down = np.arange(j0, j1 + np.sign(j1 - j0), np.sign(j1 - j0))
        expected = data[across][:, down, k].T
        if image.Modality == "CT":
            assert slope == 1
            np.testing.assert_array_equal(stored, expected)
        else:
            assert np.abs(stored - expected).max() <= slope / 2 * 1.001


@pytest.mark.parametrize("bundle", CASES)
def test_the_app_writes_a_valid_series_with_the_pixels_of_the_command_line(
    bundle, environment, unpacked, dicom_studies, tmp_path
):
    kind, domain, line, options = CASES[bundle]
    given = COMMAND_LINE.get(bundle, {})
    done = app(environment("deploy"), unpacked[bundle], dicom_studies / kind, tmp_path / "app", line, **options)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    images = images_in(tmp_path / "app")
    check_pixels(images, command_line(unpacked[bundle], dicom_studies / kind / domain, tmp_path / "command", given))
    assert errors_of(dicom_studies / kind / domain) == set()  # whatever is found now is the app's doing
    assert errors_of(tmp_path / "app") == set()
    check_words(bundle, images, given.get("target"))


def test_the_app_writes_half_widths_as_a_second_series(environment, unpacked, dicom_studies, tmp_path):
    options = {"target": "B70f", "series": "B30f", "set": "uncertainty=true"}
    done = app(environment("deploy"), unpacked["ggcl"], dicom_studies / "chest", tmp_path / "app", **options)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    assert "half-widths. The coverage was measured on" in done.stdout + done.stderr
    folders = sorted(path for path in (tmp_path / "app").iterdir() if path.is_dir())
    assert folders[1].name == f"{folders[0].name}_uncertainty"
    image, found = (dcmread(sorted(folder.iterdir())[0]) for folder in folders)
    assert found.SOPClassUID == ParametricMapStorage
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert found[name].value == image[name].value
    assert image.SeriesInstanceUID in found.DerivationDescription
    assert (found.Rows, found.Columns, found.NumberOfFrames) == (image.Rows, image.Columns, 2)
    assert errors_of(tmp_path / "app") == set()


def check_words(bundle, images, target):
    """What may be said, once through the whole path; tests/dicom/derived/test_series.py tests each rule."""
    for image in images:
        assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert "research use only" in image.SeriesDescription
        assert f"MONAI bundle {bundle} " in image.DerivationDescription
        assert not any(element.tag.is_private for element in image.iterall())
        if target:
            assert image.ConvolutionKernel == f"{target} synthetic"
        if bundle == "nect2cect":
            assert not [name for name in image.dir() if "Contrast" in name or "Bolus" in name]
        if bundle == "nec_t1t2":
            assert not [name for name in ("RepetitionTime", "EchoTime", "InversionTime") if image.get(name)]
        if bundle == "sr_cyclegan":
            assert image.PixelSpacing[0] < 0.1


def test_one_of_several_series_must_be_chosen(environment, unpacked, dicom_studies, tmp_path):
    done = app(environment("deploy"), unpacked["ggcl"], dicom_studies / "chest", tmp_path / "app", target="B70f")
    assert done.returncode == 1
    assert "error: The input folder has 2 series that fit: " in done.stderr
    assert "Choose one with `--series`" in done.stderr
    assert not list((tmp_path / "app").iterdir())


def test_an_image_that_its_scanner_derived_is_judged_as_on_the_command_line(environment, unpacked, tmp_path):
    """A leg, whose ImageType says DERIVED: both take it, and what they doubt stands in the series."""
    series = real_series("ibsi_STS_019_MR_T1.zip", tmp_path, 3)
    done = app(environment("deploy"), unpacked["nec_t1t2"], series, tmp_path / "app")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    images = images_in(tmp_path / "app")
    check_pixels(images, command_line(unpacked["nec_t1t2"], series, tmp_path / "command", {}))
    (facts,) = (json.loads(path.read_text()) for path in (tmp_path / "command").glob("*.json"))
    doubted = [f"{check['check']}: " for check in facts["guards"]["checks"] if check["verdict"] != "passed"]
    assert doubted
    assert all(check in image.ImageComments for check in doubted for image in images)


def scouted(series, first):
    """Give a series a localizer of its own UID, and its study another one in a series of its own."""
    image = dcmread(sorted(series.iterdir())[0])
    for name, uid in ((first, image.SeriesInstanceUID), ("other_scout.dcm", generate_uid())):
        image.SeriesInstanceUID, image.SOPInstanceUID = uid, generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        image.save_as(series / name)


@pytest.mark.parametrize("first", ["0000", "zzzz"])
def test_localizers_are_left_out_as_on_the_command_line(first, environment, unpacked, dicom_studies, tmp_path):
    series = shutil.copytree(dicom_studies / "chest" / "B30f", tmp_path / "series")
    count = len(list(series.iterdir()))
    scouted(series, first)
    done = app(environment("deploy"), unpacked["ggcl"], series, tmp_path / "app", target="B70f")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    images = images_in(tmp_path / "app")
    assert len(images) == count
    check_pixels(images, command_line(unpacked["ggcl"], series, tmp_path / "command", {"target": "B70f"}))


def test_a_study_of_localizers_is_refused_with_the_reason(environment, unpacked, dicom_studies, tmp_path):
    series = tmp_path / "series"
    shutil.copytree(dicom_studies / "chest" / "B30f", series)
    for path in series.iterdir():
        image = dcmread(path)
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        image.save_as(path)
    done = app(environment("deploy"), unpacked["ggcl"], series, tmp_path / "app", target="B70f")
    assert done.returncode == 1
    assert "a localizer (ImageType LOCALIZER)" in done.stderr
    assert not list((tmp_path / "app").iterdir())


@pytest.mark.parametrize(("guards", "code"), [("refuse", 1), ("warn", 0)])
def test_guards_refuse_or_warn_as_on_the_command_line(guards, code, environment, unpacked, tmp_path):
    """A kernel of another vendor, which cannot be estimated from three slices of a leg."""
    series = real_series("ibsi_STS_019_CT.zip", tmp_path, 3)
    options = {"target": "B70f", "set": f"guards={guards}"}
    done = app(environment("deploy"), unpacked["ggcl"], series, tmp_path / "app", **options)
    words = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", "configs/inference.yaml"]
    words += ["--bundle_root", ".", "--dataset_dir", str(series), "--output_dir", str(tmp_path / "command")]
    told = started([*words, "--target", "B70f", "--guards", guards], cwd=unpacked["ggcl"])
    assert (done.returncode, told.returncode) == (code, code), done.stderr[-2000:] + told.stderr[-2000:]
    assert len(list((tmp_path / "command").rglob("*.nii*"))) == 1 - code
    if code:
        (reason,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "kernel" in reason
        assert reason.split("kernel")[-1] in told.stderr
        assert not list((tmp_path / "app").iterdir())
    else:
        assert all("kernel: " in image.ImageComments for image in images_in(tmp_path / "app"))


def test_a_damaged_slice_is_not_left_out_silently(environment, unpacked, dicom_studies, tmp_path):
    """The SDK's loader passes over a file that it cannot read."""
    series = shutil.copytree(dicom_studies / "chest" / "B30f", tmp_path / "series")
    (series / "0002").write_bytes(b"")
    done = app(environment("deploy"), unpacked["ggcl"], series, tmp_path / "app", target="B70f")
    assert done.returncode == 1
    assert "error: A slice may be missing: " in done.stderr
    assert "0002' cannot be read as DICOM" in done.stderr
    assert not list((tmp_path / "app").iterdir())


def test_an_unknown_target_is_refused(environment, unpacked, dicom_studies, tmp_path):
    done = app(
        environment("deploy"), unpacked["ggcl"], dicom_studies / "chest", tmp_path / "app", target="B99f", series="B30f"
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "'B99f'" in done.stderr
    assert not list((tmp_path / "app").iterdir())


def test_a_real_ct_series_is_converted(environment, unpacked, tmp_path):
    series = real_series("ibsi_STS_019_CT.zip", tmp_path, 3)
    uid = str(dcmread(next(series.iterdir())).SeriesInstanceUID)
    options = {"target": "B70f", "set": "source=B30f", "series": uid}
    done = app(environment("deploy"), unpacked["ggcl"], series, tmp_path / "app", **options)
    assert done.returncode == 0, done.stderr[-4000:]
    images, given = images_in(tmp_path / "app"), {"target": "B70f", "source": "B30f"}
    check_pixels(images, command_line(unpacked["ggcl"], series, tmp_path / "command", given))
    assert errors_of(tmp_path / "app") <= errors_of(series)  # a StudyID that is too long; no Laterality
    assert images[0].PatientID == "STS_019"
    assert images[0].ContributingEquipmentSequence[0].Manufacturer == "GE MEDICAL SYSTEMS"


def real_series(name, tmp_path, slices):
    """Some neighbouring slices of a real series."""
    with zipfile.ZipFile(require_shared("data", "dicom", name)) as archive:
        archive.extractall(tmp_path / "all")
    files = [path for path in (tmp_path / "all").rglob("*") if path.is_file()]
    files.sort(key=lambda path: int(dcmread(path, stop_before_pixels=True).InstanceNumber))
    folder = tmp_path / "series"
    folder.mkdir()
    for path in files[20 : 20 + slices]:
        shutil.copy(path, folder)
    return folder


def test_the_environment_has_versions_that_the_sdk_names(environment):
    """Its metadata lets any Holoscan in; its page says up to which one it is compatible."""
    code = """
import re
from importlib.metadata import metadata, version
page = metadata("monai-deploy-app-sdk").get_payload() or metadata("monai-deploy-app-sdk")["Description"]
newest = re.search(r"`holoscan-cu13` and `holoscan-cli` up to version ([0-9.]+[0-9]) are compatible", page)[1]
print(newest, version("holoscan-cu13"), version("holoscan-cli"))
"""
    done = started([str(environment("deploy")), "-c", code], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    newest, *found = done.stdout.split()
    assert found == found[:1] * 2  # the packager takes the SDK of its own version
    assert [int(part) for part in found[0].split(".")[:2]] <= [int(part) for part in newest.split(".")]


@pytest.fixture
def package(tmp_path):
    """The folder that docs/monai_deploy.md makes for the packager; its `common` says that it is imported."""
    (line,) = (line for line in PAGE.read_text().splitlines() if line.startswith("cp -r deploy/map "))
    made = line.replace("build/map", str(tmp_path / "map"))
    subprocess.run(["bash", "-c", f"set -e; {made}"], cwd=ROOT, check=True)
    with (tmp_path / "map" / "common" / "__init__.py").open("a") as file:
        file.write('\nprint("the package of the folder")\n')
    return tmp_path / "map"


def test_the_packager_reads_the_apps_folder(package, environment, unpacked, tmp_path):
    """The packager's own classes, up to what it hands to Docker."""
    shutil.copytree(unpacked["ggcl"], tmp_path / "models" / "ggcl")
    code = f"""
import json
from pathlib import Path
from holoscan_cli.packager.config_reader import ApplicationConfiguration
from holoscan_cli.packager.models import Models
from holoscan_cli.packager.parameters import PackageBuildParameters
build = PackageBuildParameters()
build.models = Models().build(Path({str(tmp_path / "models")!r}))
build.application = Path({str(package)!r})
config = ApplicationConfiguration()
config.read(Path({str(package / "app.yaml")!r}))
build.version = None
app = config.populate_app_manifest(build).data
pkg = config.populate_package_manifest(build).data
print(json.dumps([app, pkg, config.title(), str(build.requirements_file_path), build.application_type.value]))
"""
    done = started([str(environment("deploy")), "-c", code], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    app, pkg, title, requirements, kind = json.loads(done.stdout.splitlines()[-1])
    assert kind == "Python Module"
    assert json.loads(app["command"]) == ["python3", "/opt/holoscan/app"]
    assert app["version"] == pkg["version"] == common.__version__
    assert pkg["models"] == {"ggcl": "/opt/holoscan/models/ggcl"}
    assert app["environment"]["HOLOSCAN_MODEL_PATH"] == "/opt/holoscan/models"
    assert "RESEARCH USE ONLY" in title
    assert requirements == str(package / "requirements.txt")


def test_the_apps_folder_runs_as_a_package_starts_it(package, environment, unpacked, dicom_studies, tmp_path):
    """`python APP`, with places by the environment only, and the bundle in the folder of the models."""
    shutil.copytree(unpacked["ggcl"], tmp_path / "models" / "ggcl")
    places = {"INPUT": dicom_studies / "chest" / "B30f", "OUTPUT": tmp_path / "out", "MODEL": tmp_path / "models"}
    given = {f"HOLOSCAN_{name}_PATH": str(place) for name, place in places.items()} | {"TRANSLATION_TARGET": "B70f"}
    done = started([str(environment("deploy")), str(package)], cwd=tmp_path, **given)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    assert "the package of the folder" in done.stdout
    images = images_in(tmp_path / "out")
    check_pixels(images, command_line(unpacked["ggcl"], places["INPUT"], tmp_path / "command", {"target": "B70f"}))

    shutil.copytree(unpacked["nec_t1t2"], tmp_path / "models" / "nec_t1t2")
    done = started([str(environment("deploy")), str(package)], cwd=tmp_path, **given)
    assert done.returncode == 1
    assert "contains the bundles ggcl, nec_t1t2: name the folder of one by `-m`" in done.stderr
