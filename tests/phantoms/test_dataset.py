from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.files import write_bytes
from common.phantoms import generate_phantom
from common.phantoms.brain.phantom import BRAIN, brain_parameters, make_brain
from common.phantoms.dataset import (
    PhantomKind,
    Volume,
    make_datalist,
    split_counts,
    write_dataset,
    write_nifti,
)

SMALL = {"patients": 6, "slices": 2, "size": 64, "workers": 1}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Path of the datalist of a small data set, which no test changes."""
    return generate_phantom("brain", tmp_path_factory.mktemp("brain"), **SMALL)


@pytest.fixture(scope="module")
def datalist(dataset):
    return json.loads(dataset.read_text())


def modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def volume_files(datalist, *, keys=("T1", "T2", "label")):
    entries = [*datalist["training_paired"], *datalist["validation"], *datalist["test"]]
    return [entry[key] for entry in entries for key in keys]


def constant_patient(patient, parameters):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    return {key: Volume(np.full((2, 3, 4), patient + 0.6), affine) for key in ("one", "two", "three", "label")}


FAKE = PhantomKind(
    name="fake",
    domains=("one", "two", "three"),
    label_names={1: "thing"},
    description="Constants.",
    check_parameters=dict,
    make_patient=constant_patient,
)


class TestDatalist:
    def test_top_level(self, datalist):
        assert datalist["name"] == "brain phantom"
        assert datalist["domains"] == ["T1", "T2"]
        expected = {"kind": "brain", "patients": 6, "slices": 2, "size": 64, "seed": 0, "slice_mm": 6.0}
        assert expected.items() <= datalist["parameters"].items()
        assert isinstance(datalist["parameters"]["version"], int)
        assert datalist["label_names"] == {
            "1": "oedema",
            "2": "tumour",
            "3": "necrosis",
            "4": "deep_nuclei",
            "5": "ventricles",
            "6": "grey_matter",
            "7": "white_matter",
            "8": "sulcal_csf",
        }
        assert "research only" in datalist["licence"]
        assert datalist["description"]

    def test_unpaired_entries(self, datalist):
        for entry in datalist["training"]:
            assert set(entry) == {"image", "domain", "patient"}
            assert entry["image"] == f"images/{entry['patient']}_{entry['domain']}.nii.gz"

    @pytest.mark.parametrize("part", ["training_paired", "validation", "test"])
    def test_paired_entries(self, datalist, part):
        assert datalist[part]
        for entry in datalist[part]:
            name = entry["patient"]
            assert entry == {
                "patient": name,
                "T1": f"images/{name}_T1.nii.gz",
                "T2": f"images/{name}_T2.nii.gz",
                "label": f"labels/{name}.nii.gz",
            }

    def test_splits_share_no_patient_and_cover_all(self, datalist):
        parts = [{entry["patient"] for entry in datalist[part]} for part in ("training_paired", "validation", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 6

    def test_domains_come_from_disjoint_training_patients(self, datalist):
        by_domain = {d: {e["patient"] for e in datalist["training"] if e["domain"] == d} for d in datalist["domains"]}
        assert all(by_domain.values())
        assert not by_domain["T1"] & by_domain["T2"]
        assert by_domain["T1"] | by_domain["T2"] == {entry["patient"] for entry in datalist["training_paired"]}

    def test_three_domains_are_disjoint_too(self):
        entries = [{"patient": str(i), "one": "1", "two": "2", "three": "3"} for i in range(20)]
        training = make_datalist(FAKE, {}, entries)["training"]
        assert len({entry["patient"] for entry in training}) == len(training)
        counts = [sum(entry["domain"] == domain for entry in training) for domain in FAKE.domains]
        assert max(counts) - min(counts) <= 1

    def test_split_sizes(self):
        assert split_counts(24) == (14, 3, 7)
        for patients in range(4, 200):
            training, validation, test = split_counts(patients)
            assert training + validation + test == patients
            assert training >= 2
            assert validation >= 1
            assert test >= 1


class TestFiles:
    def test_all_exist_and_no_others(self, dataset, datalist):
        found = {str(p.relative_to(dataset.parent)) for p in dataset.parent.rglob("*") if p.is_file()}
        assert found == {*volume_files(datalist), "datalist.json"}

    def test_header(self, dataset, datalist):
        for path in volume_files(datalist):
            image = nibabel.load(dataset.parent / path)
            assert image.shape == (64, 64, 2)
            assert image.get_data_dtype() == np.int16
            np.testing.assert_allclose(image.header.get_zooms(), (4.0, 4.0, 6.0), rtol=1e-6)
            assert image.header.get_xyzt_units()[0] == "mm"
            (sform, sform_code), (qform, qform_code) = (f(coded=True) for f in (image.get_sform, image.get_qform))
            assert sform_code == qform_code == 1
            np.testing.assert_allclose(sform, qform, atol=1e-4)
            assert nibabel.aff2axcodes(image.affine) == ("L", "A", "S")

    def test_volumes_of_a_patient_share_their_grid(self, dataset, datalist):
        affines = []
        for entry in datalist["training_paired"]:
            images = [nibabel.load(dataset.parent / entry[key]) for key in ("T1", "T2", "label")]
            np.testing.assert_array_equal(images[0].affine, images[1].affine)
            np.testing.assert_array_equal(images[0].affine, images[2].affine)
            affines.append(images[0].affine)
        assert not np.allclose(affines[0], affines[1])

    def test_content_is_the_patient(self, dataset, datalist):
        expected = make_brain(0, brain_parameters(slices=2, size=64))
        for key, volume in expected.items():
            stored = nibabel.load(dataset.parent / datalist["training_paired"][0][key])
            np.testing.assert_allclose(stored.get_fdata(), volume.data, atol=0.51)
            np.testing.assert_allclose(stored.affine, volume.affine, atol=0.02)

    def test_values_are_rounded_not_truncated(self, tmp_path):
        write_nifti(tmp_path / "a.nii.gz", Volume(np.array([[[-0.6, 0.4, 1.6]]]), np.eye(4)))
        assert nibabel.load(tmp_path / "a.nii.gz").get_fdata().ravel().tolist() == [-1, 0, 2]

    def test_values_beyond_int16_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"a.nii.gz must fit int16, got 0 to 40000"):
            write_nifti(tmp_path / "a.nii.gz", Volume(np.array([[[0, 40000]]]), np.eye(4)))
        assert not list(tmp_path.iterdir())


class TestRepeatedRun:
    def test_same_parameters_change_nothing(self, dataset, capsys):
        before = modification_times(dataset.parent)
        assert generate_phantom("brain", dataset.parent, **SMALL) == dataset
        assert modification_times(dataset.parent) == before
        assert "all 6 patients are already in" in capsys.readouterr().out

    def test_other_parameters_are_refused(self, dataset):
        before = modification_times(dataset.parent)
        with pytest.raises(ValueError, match="already holds a phantom of other parameters") as error:
            generate_phantom("brain", dataset.parent, **{**SMALL, "slices": 3})
        for part in (str(dataset.parent), "`slices` is 2 there and 3 here", "--output_dir"):
            assert part in str(error.value)
        assert "`size`" not in str(error.value)
        assert modification_times(dataset.parent) == before

    def test_missing_file_is_made_again(self, tmp_path, capsys):
        parameters = {"patients": 4}
        datalist = write_dataset(FAKE, parameters, tmp_path, workers=1)
        before = modification_times(tmp_path)
        lost = tmp_path / "images" / "fake_0002_two.nii.gz"
        content = lost.read_bytes()
        lost.unlink()
        write_dataset(FAKE, parameters, tmp_path, workers=1)
        assert lost.read_bytes() == content
        after = modification_times(tmp_path)
        changed = {path.name for path in before if before[path] != after[path]}
        assert changed == {f"fake_0002{suffix}.nii.gz" for suffix in ("_one", "_two", "_three", "")}
        assert after[datalist] == before[datalist]
        assert "files of 1 patients are missing" in capsys.readouterr().out

    @pytest.mark.parametrize("content", ["{", "[]", '{"training": []}'])
    def test_foreign_datalist_is_refused(self, tmp_path, content):
        (tmp_path / "datalist.json").write_text(content)
        with pytest.raises(ValueError, match=r"datalist.json was not written by this generator.*--output_dir"):
            generate_phantom("brain", tmp_path, **SMALL)
        assert [path.name for path in tmp_path.iterdir()] == ["datalist.json"]


class TestInterruption:
    def test_no_datalist_before_all_patients_are_written(self, tmp_path):
        def fail_at_two(patient, parameters):
            if patient == 2:
                raise KeyboardInterrupt
            return constant_patient(patient, parameters)

        with pytest.raises(KeyboardInterrupt):
            write_dataset(replace(FAKE, make_patient=fail_at_two), {"patients": 4}, tmp_path, workers=1)
        assert not (tmp_path / "datalist.json").exists()
        datalist = json.loads(write_dataset(FAKE, {"patients": 4}, tmp_path, workers=1).read_text())
        assert all((tmp_path / path).is_file() for path in volume_files(datalist, keys=(*FAKE.domains, "label")))

    def test_interrupted_write_leaves_no_file(self, tmp_path, monkeypatch):
        def stop(*_):
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            write_bytes(tmp_path / "a.nii.gz", b"0123456789")
        assert not list(tmp_path.iterdir())

    def test_interrupted_write_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.json"
        path.write_bytes(b"old")

        def stop(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_bytes(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

    def test_killed_run_leaves_only_whole_files(self, tmp_path):
        call = f"from common.phantoms import generate_phantom; generate_phantom('brain', {str(tmp_path)!r}, workers=1)"
        run = subprocess.Popen([sys.executable, "-c", call], cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("images/*.nii.gz"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        run.kill()
        run.wait()
        written = list(tmp_path.rglob("*.nii.gz"))
        assert len(written) >= 3
        assert not (tmp_path / "datalist.json").exists()
        for path in written:
            assert nibabel.load(path).get_fdata().shape == (256, 256, 8)


def test_two_processes_write_what_one_writes(tmp_path):
    arguments = {"patients": 4, "slices": 1, "size": 32}
    one = generate_phantom("brain", tmp_path / "one", workers=1, **arguments)
    two = generate_phantom("brain", tmp_path / "two", workers=2, **arguments)
    assert one.read_text() == two.read_text()
    for path in volume_files(json.loads(one.read_text())):
        first, second = (nibabel.load(datalist.parent / path).get_fdata() for datalist in (one, two))
        np.testing.assert_allclose(first, second, atol=1)


def test_error_in_a_process_reaches_the_caller(tmp_path):
    parameters = {"kind": "brain", "patients": 4}
    with pytest.raises(KeyError, match="seed"):
        write_dataset(BRAIN, parameters, tmp_path, workers=2)
    assert not (tmp_path / "datalist.json").exists()


def test_unguarded_script_still_gets_its_data(tmp_path):
    call = (
        "from common.phantoms import generate_phantom; "
        f"generate_phantom('brain', {str(tmp_path / 'data')!r}, patients=4, slices=1, size=32, workers=2)"
    )
    script = tmp_path / "script.py"
    script.write_text(call)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    assert "__main__" in done.stderr
    assert (tmp_path / "data" / "datalist.json").is_file()


def test_unknown_kind_names_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match=r"`kind` must be one of 'brain'.*, got 'heart'\."):
        generate_phantom("heart", tmp_path)


@pytest.mark.parametrize("workers", [0, 1.5])
def test_wrong_number_of_workers_is_refused(tmp_path, workers):
    with pytest.raises(ValueError, match=rf"`workers` must be an integer >= 1, got {workers}\."):
        generate_phantom("brain", tmp_path, workers=workers)


def test_arguments_are_checked_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="`patients` must be an integer >= 4, got 2"):
        generate_phantom("brain", tmp_path / "new", patients=2)
    assert not (tmp_path / "new").exists()
