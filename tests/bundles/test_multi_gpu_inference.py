"""`multi_gpu_inference.yaml`: an archive shared out among processes, killed, and run again without repetition."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common import preflight
from tests.helpers.bundles import ROOT
from tests.helpers.devices import pretend
from tests.helpers.dicom_series import write_source_series
from tests.helpers.translations import BUNDLES, OPTIONS, save, sidecars, source, translate

NAMES = ["p1/scan", "p1/late", "p2/scan", "p3/scan", "p3/deep/scan", "p4/scan", "p5/scan"]
SUFFIX = "_synthetic_T2"


def parsed(bundle: str, images: Path, out: Path, **more: object) -> ConfigParser:
    parser = ConfigParser()
    configs = BUNDLES / bundle / "configs"
    parser.read_config([str(configs / name) for name in ("inference.yaml", "multi_gpu_inference.yaml")])
    places = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(images), "output_dir": str(out)}
    parser.update({**places, **OPTIONS[bundle], **more})
    return parser


@pytest.fixture
def as_rank(monkeypatch):
    def use(rank: int, processes: int, local: int | None = None) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if local is not None:
            monkeypatch.setenv("LOCAL_RANK", str(local))

    return use


@pytest.mark.parametrize("bundle", OPTIONS)
def test_every_image_is_in_one_share(bundle, tmp_path, as_rank):
    for name in NAMES:
        save(tmp_path / "in" / f"{name}.nii.gz", *source(bundle))
    found: list[str] = []
    for rank in range(3):
        as_rank(rank, 3)
        parser = parsed(bundle, tmp_path / "in", tmp_path / "out")
        parser.parse()
        preflight.check(config=parser)
        mine = [item["image"] for item in parser.get_parsed_content("dataset").data]
        assert len(mine) in (len(NAMES) // 3, len(NAMES) // 3 + 1)
        found += mine
    assert sorted(found) == sorted(str(tmp_path / "in" / f"{name}.nii.gz") for name in NAMES)


@pytest.mark.parametrize("bundle", OPTIONS)
def test_the_ranks_of_an_array_together_write_what_one_process_does(bundle, tmp_path, as_rank):
    """Without `torchrun`: each task of a Slurm array on its own, here one after the other."""
    for name in ("a", "p/a"):
        save(tmp_path / "in" / f"{name}.nii.gz", *source(bundle, len(name)))
    translate(bundle, tmp_path / "in", tmp_path / "one")
    for rank in range(2):
        as_rank(rank, 2)
        parsed(bundle, tmp_path / "in", tmp_path / "two").get_parsed_content("run")
    one, two = voxels(tmp_path / "one"), voxels(tmp_path / "two")
    assert len(one) == 2
    assert one.keys() == two.keys()
    for name, image in one.items():
        np.testing.assert_array_equal(image, two[name])
    before = times(tmp_path / "one")
    translate(bundle, tmp_path / "in", tmp_path / "one", skip_done=True)
    assert times(tmp_path / "one") == before
    translate(bundle, tmp_path / "in", tmp_path / "one")
    assert all(time_ > before[name] for name, time_ in times(tmp_path / "one").items())


def test_finished_dicom_series_are_known_in_a_folder_and_in_a_zip(tmp_path):
    for number in range(2):
        place = tmp_path / "in" / f"scan{number}"
        volume, affine = source("nect2cect", number)
        write_source_series(place, volume, affine, "CT", ContrastBolusAgent="", SeriesNumber=number + 1)
    shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    for images in (tmp_path / "in", tmp_path / "in.zip"):
        out = tmp_path / f"out_of_{images.name}"
        translate("nect2cect", images, out, output_format="both")
        before = times(out)
        assert len([name for name in before if name.endswith(".nii.gz")]) == 2
        translate("nect2cect", images, out, output_format="both", skip_done=True)
        assert times(out) == before
        (first, *_) = sorted(out.rglob("*.dcm"))
        first.unlink()
        translate("nect2cect", images, out, output_format="both", skip_done=True)
        assert len([name for name, time_ in times(out).items() if before.get(name) == time_]) == len(before) // 2


def test_another_choice_is_made_anew(tmp_path):
    """The file's name does not tell the slab: its sidecar does."""
    save(tmp_path / "in.nii.gz", *source("sr_cyclegan"))
    for slab in ([0, 2], [2, 4], [2, 4]):
        translate("sr_cyclegan", tmp_path / "in.nii.gz", tmp_path / "out", slab=slab, skip_done=True)
        ((_, facts),) = sidecars(tmp_path / "out").items()
        assert facts["choices"]["slab"] == slab


def test_the_device_is_that_of_the_local_rank(tmp_path, as_rank, monkeypatch):
    pretend(monkeypatch, "cuda", 8)
    for rank, local, index in ((5, 1, 1), (5, None, 0)):
        as_rank(rank, 8, local)
        parser = parsed("nec_t1t2", tmp_path, tmp_path)
        assert parser.get_parsed_content("device") == torch.device("cuda", index)


def test_the_overlays_of_all_bundles_are_one():
    texts = {(BUNDLES / bundle / "configs" / "multi_gpu_inference.yaml").read_text() for bundle in OPTIONS}
    assert len(texts) == 1


# ---- two processes of `torchrun`


def torchrun(images: Path, out: Path) -> subprocess.Popen:
    configs = [str(BUNDLES / "nec_t1t2" / "configs" / f"{name}.yaml") for name in ("inference", "multi_gpu_inference")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command += ["monai.bundle", "run", "inference", "--config_file", str(configs)]
    command += ["--bundle_root", str(BUNDLES / "nec_t1t2"), "--dataset_dir", str(images), "--output_dir", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=images, env=environment, stderr=subprocess.PIPE, text=True)


def voxels(folder: Path) -> dict[str, np.ndarray]:
    """By their path; what is hidden is no output."""
    paths = [path for path in folder.rglob("*.nii*") if not hidden(path, folder)]
    return {str(path.relative_to(folder)): np.asarray(nib.load(path).dataobj) for path in paths}


def times(folder: Path) -> dict[str, int]:
    walk = os.walk(folder)  # it passes over a hidden folder that goes meanwhile, where rglob raises
    paths = [Path(place, name) for place, _, names in walk for name in names]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths if not hidden(path, folder)}


def hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finding a process's children needs Linux")
def test_an_archive_is_completed_after_a_rank_was_killed_and_the_bad_case_is_named_once(tmp_path):
    for name in NAMES:
        save(tmp_path / "in" / f"{name}.nii.gz", *source("nec_t1t2", len(name)))
    # The first two outputs by name: one of each rank.
    bad = [save(tmp_path / "in" / f"bad{rank}.nii.gz", np.full((8, 8, 4), 7), np.eye(4)) for rank in range(2)]
    out = tmp_path / "out"
    killed = torchrun(tmp_path / "in", out)
    while not any(name.endswith(".nii.gz") for name in times(out)):
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.005)
    (*_, worker) = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    killed.communicate(timeout=120)
    assert killed.returncode != 0
    before = times(out)
    finished = [name for name in before if name.endswith(".nii.gz")]
    assert 1 <= len(finished) < len(NAMES)

    again = torchrun(tmp_path / "in", out)
    (_, log) = again.communicate(timeout=240)
    assert again.returncode != 0
    lines = log.splitlines()
    (told,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    left = len(NAMES) - len(finished)
    summary = f"error: 2 of {left + 2} images failed and have no output; {left} were translated. Failed:"
    assert lines[told] == summary
    for path, line in zip(bad, lines[told + 1 : told + 3]):
        assert line.startswith(f"  {str(path)!r} is constant (7)")
    after = times(out)
    assert set(after) == {f"{name}{SUFFIX}{end}" for name in NAMES for end in (".nii.gz", ".json")}
    for name in finished:
        assert after[name] == before[name], name
    for path in bad:
        path.unlink()
    translate("nec_t1t2", tmp_path / "in", tmp_path / "one")
    one, two = voxels(tmp_path / "one"), voxels(out)
    assert one.keys() == two.keys()
    for name, image in one.items():
        np.testing.assert_array_equal(image, two[name])
    assert not [path for path in out.rglob("*") if hidden(path, out)]
