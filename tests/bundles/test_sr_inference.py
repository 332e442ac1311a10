"""SR-CycleGAN's inference: every structure stays where it is on any grid, and bad input leaves nothing behind."""

from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out
from torch import nn

from common import preflight
from common.errors import DiskFullError
from common.images import NiftiSliceWriter
from common.networks import SuperResolutionGenerator, save_definition
from tests.helpers.bundles import ROOT, done, run
from tests.helpers.shared import needs_shared, shared

BUNDLE = ROOT / "bundles" / "sr_cyclegan"
CONFIG = BUNDLE / "configs" / "inference.yaml"
METADATA = BUNDLE / "configs" / "metadata.json"
SCHEMA = ("data", "schema", "meta_schema_20240725.json")
FACTOR = 8


class StandIn(nn.Module):
    """Interpolates, in place of weights."""

    factor, margin = FACTOR, 1

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(image, scale_factor=float(self.factor), mode=self.mode)


def stand_in(mode: str) -> dict[str, str]:
    return {"_target_": f"{__name__}.StandIn", "mode": mode}


def parsed(**overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser.update({"bundle_root": str(BUNDLE), "use_paper_network": True, **overrides})
    return parser


def super_resolve(source: Path, out: Path, mode: str = "nearest", **options: object) -> None:
    """Runs the inference with a stand-in, unless `network_def` is another."""
    places = {"dataset_dir": str(source), "output_dir": str(out), "device": "$torch.device('cpu')"}
    overrides = {"network_def": stand_in(mode), "handlers": [], "region": "all", **options}
    parsed(**places, **overrides).get_parsed_content("run")


def messages(error: BaseException | None) -> str:
    """Of an error and of those that led to it."""
    found = []
    while error is not None:
        found.append(str(error))
        error = error.__cause__
    return "\n".join(found)


def affine(spacing: tuple[float, float, float], degrees: float = 0.0) -> np.ndarray:
    """Turned about two axes, with an origin."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn @ np.diag(spacing), [-120.3, 41.7, 903.1]
    return matrix


GRIDS = {
    "straight": (affine((0.6, 0.6, 1.0)), "RAS"),
    "anisotropic": (affine((0.6, 0.75, 2.5)), "LPS"),
    "oblique": (affine((0.6, 0.6, 3.0), 20), "LPS"),
    "oblique_flipped": (affine((0.7, 0.6, 3.0), -15), "LPI"),
    "coronal": (affine((0.6, 0.6, 1.0), 10), "LSA"),
    "sagittal": (affine((0.7, 0.7, 0.7)), "PSR"),
    "turned": (affine((0.6, 0.7, 2.0), 5), "IRA"),
}


def save(path: Path, volume: np.ndarray, grid: str) -> nib.Nifti1Image:
    """Stores a volume (X, Y, Z) along RAS with its voxels in the order of a grid."""
    matrix, axes = GRIDS[grid]
    image = nib.Nifti1Image(volume.astype(np.int16), matrix)
    change = nib.orientations.ornt_transform(nib.io_orientation(matrix), nib.orientations.axcodes2ornt(axes))
    stored = image.as_reoriented(change)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(stored, path)
    return stored


def scan(shape: tuple[int, int, int] = (13, 9, 5), seed: int = 0) -> np.ndarray:
    """Noise within the codec's range, and a little beyond."""
    return np.random.default_rng(seed).integers(-1300, 500, shape)


def only(folder: Path) -> nib.Nifti1Image:
    (path,) = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
    return nib.load(path)


def box_of(grid: str) -> list[list[int]]:
    """[3, 9] x [2, 7] x [1, 4] of the stored axes that are these axes of the patient."""
    axes = nib.orientations.axcodes2ornt(GRIDS[grid][1])[:, 0]
    return [[[3, 9], [2, 7], [1, 4]][int(axis)] for axis in axes]


@pytest.mark.parametrize("part", ["all", "box"])
@pytest.mark.parametrize("grid", GRIDS)
def test_every_fine_voxel_holds_the_value_of_the_voxel_that_it_lies_in(tmp_path, grid, part):
    """Through both files' affines alone, by numpy: nearest neighbours, clipped by the codec."""
    source = save(tmp_path / "in" / "scan.nii.gz", scan(), grid)
    region = "all" if part == "all" else box_of(grid)
    super_resolve(tmp_path / "in", tmp_path / "out", region=region, tile_size=4)
    output = only(tmp_path / "out")
    assert Path(output.get_filename()).name == "scan_synthetic_micro.nii"
    assert output.get_data_dtype() == np.int16
    assert {*nib.aff2axcodes(output.affine)} == {*GRIDS[grid][1]}
    fine = np.stack(np.meshgrid(*(np.arange(n) for n in output.shape), indexing="ij"), -1).reshape(-1, 3)
    places = nib.affines.apply_affine(np.linalg.inv(source.affine) @ output.affine, fine)
    voxels = np.rint(places).astype(int)
    box = np.array(region if part == "box" else [[0, n] for n in source.shape])
    np.testing.assert_array_equal(np.unique(voxels, axis=0).min(axis=0), box[:, 0])
    np.testing.assert_array_equal(np.unique(voxels, axis=0).max(axis=0), box[:, 1] - 1)
    assert len(fine) == FACTOR**2 * np.prod(box[:, 1] - box[:, 0])
    expected = np.clip(np.asarray(source.dataobj)[tuple(voxels.T)], -1200, 400)
    np.testing.assert_array_equal(np.asarray(output.dataobj)[tuple(fine.T)], expected)
    # Fine voxels lie evenly: their distance from the nearest centre is a multiple of 1/8, less 1/16.
    np.testing.assert_allclose(np.abs(places - voxels).max(axis=0).max(), 7 / 16, atol=1e-3)


@pytest.mark.parametrize("grid", ["oblique_flipped", "sagittal"])
def test_a_structure_stays_where_it_is_to_a_tenth_of_a_micro_voxel(tmp_path, grid):
    """Centre of mass, in millimetres, of a blob in the source and in its interpolation."""
    x, y, z = np.meshgrid(np.arange(23.0), np.arange(21.0), np.arange(5.0), indexing="ij")
    blob = 900 * np.exp(-((x - 11.3) ** 2 + (y - 9.6) ** 2) / 8 - (z - 2) ** 2)
    source = save(tmp_path / "in" / "scan.nii.gz", blob - 1000, grid)
    super_resolve(tmp_path / "in", tmp_path / "out", "bilinear", tile_size=8)
    centres = []
    for image in (source, only(tmp_path / "out")):
        weights = np.asarray(image.dataobj) + 1000.0
        places = np.stack(np.meshgrid(*(np.arange(n) for n in image.shape), indexing="ij"), -1)
        mean = (weights[..., None] * places).sum(axis=(0, 1, 2)) / weights.sum()
        centres.append(nib.affines.apply_affine(image.affine, mean))
    micro_mm = min(nib.affines.voxel_sizes(source.affine)) / FACTOR
    assert np.linalg.norm(centres[1] - centres[0]) < 0.1 * micro_mm


def test_slabs_names_and_compression(tmp_path):
    source = save(tmp_path / "in" / "a" / "scan.nii.gz", scan(), "oblique_flipped")
    save(tmp_path / "in" / "b" / "scan.nii.gz", scan(seed=1), "oblique_flipped")
    super_resolve(tmp_path / "in", tmp_path / "out", slab=[1, 3], compress=True, batch_size=4)
    found = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert found == [Path("a/scan_synthetic_micro.nii.gz"), Path("b/scan_synthetic_micro.nii.gz")]
    output = nib.load(tmp_path / "out" / found[0])
    assert output.shape == (104, 72, 2)
    expected = np.clip(np.asarray(source.dataobj)[..., 1:3], -1200, 400)
    np.testing.assert_array_equal(np.asarray(output.dataobj)[3::8, 3::8], expected)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A small network with random weights, as a training leaves it."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = SuperResolutionGenerator(factor=4, channels=8, num_res_blocks=1)
    torch.save(network.state_dict(), folder / "model.pt")
    facts = {"codec": {"hu": [-1000, 200]}, "domains": {"source": "clinical", "target": "micro"}, "factor": 4}
    save_definition(folder / "network.json", network, **facts, spacing_mm=[0.6, 0.6])
    return folder


def test_weights_run_as_users_run_them(models, tmp_path):
    source = save(tmp_path / "in" / "scan.nii.gz", scan(), "oblique")
    arguments = ["--dataset_dir", tmp_path / "in", "--output_dir", tmp_path / "out", "--models_dir", models]
    options = ["--region", "[[2, 10], [1, 9], [0, 5]]", "--slab", "[1, 3]", "--tile_size", 6]
    done(run(BUNDLE, "inference", ["inference"], *arguments, *options, cwd=tmp_path))
    output = only(tmp_path / "out")
    assert output.shape == (32, 32, 2)
    corners = [nib.affines.apply_affine(image.affine, np.subtract(place, 0.5)) for image, place in (
        (source, (2, 1, 1)), (output, (0, 0, 0)), (source, (10, 9, 3)), (output, (32, 32, 2)))]  # fmt: skip
    np.testing.assert_allclose(corners[0], corners[1], atol=1e-3)
    np.testing.assert_allclose(corners[2], corners[3], atol=1e-3)
    voxels = np.asarray(output.dataobj)
    assert np.ptp(voxels) > 0
    assert voxels.min() >= -1000
    assert voxels.max() <= 200


# ---- bad input


def test_a_volume_without_lung_is_refused_and_the_way_out_named(tmp_path):
    save(tmp_path / "in" / "scan.nii.gz", scan(), "straight")
    with pytest.raises(RuntimeError) as error:
        super_resolve(tmp_path / "in", tmp_path / "out", region="lung")
    assert "scan.nii.gz' has no lung: no region enclosed by the body" in messages(error.value)
    assert "where all of the volume is lung, no mask. (`--region all`)" in messages(error.value)
    assert not (tmp_path / "out").exists()


def test_micro_volumes_given_as_clinical_are_refused(tmp_path):
    """In grey values for want of air in HU, in HU by their pixels."""
    nib.save(nib.Nifti1Image((9000 + 10 * scan()).clip(0).astype(np.uint16), np.eye(4)), tmp_path / "grey.nii.gz")
    nib.save(nib.Nifti1Image(scan().astype(np.int16), np.diag([0.078, 0.078, 0.078, 1])), tmp_path / "hu.nii.gz")
    for name, message in (
        ("grey", "is not a CT in HU: its values run from"),
        ("hu", "it is of another scale, as a micro CT is"),
    ):
        with pytest.raises(RuntimeError) as error:
            super_resolve(tmp_path / f"{name}.nii.gz", tmp_path / "out")
        assert message in messages(error.value)
    assert not (tmp_path / "out").exists()


def test_a_volume_smaller_than_a_training_patch_is_super_resolved_by_the_papers_network(tmp_path):
    save(tmp_path / "in" / "scan.nii.gz", scan((7, 5, 1)), "straight")
    super_resolve(tmp_path / "in", tmp_path / "out", network_def="$common.networks.SuperResolutionGenerator()")
    assert only(tmp_path / "out").shape == (56, 40, 1)


def test_what_the_disk_has_no_room_for_is_refused_before_work_starts(tmp_path, monkeypatch):
    save(tmp_path / "in" / "scan.nii.gz", scan(), "straight")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 95 * 10**4, 5 * 10**4))
    monkeypatch.setattr(NiftiSliceWriter, "write", lambda *_: pytest.fail("work had started"))
    with pytest.raises(RuntimeError) as error:
        super_resolve(tmp_path / "in", tmp_path / "out")
    assert isinstance(error.value.__cause__, DiskFullError)
    text = messages(error.value)
    assert "scan.nii.gz' super-resolved has 104 x 72 x 5 voxels: the disk of" in text
    assert f"must have room for {(352 + 2 * 104 * 72 * 5) / 1e9:.3g} GB. There are 5e-05 GB." in text
    for cure in ("--region lung", '--slab "[z0, z1]"', '--region "[[x0, x1], [y0, y1], [z0, z1]]"', "--output_dir"):
        assert cure in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("compress", [False, True])
def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path, monkeypatch, compress):
    save(tmp_path / "in" / "scan.nii.gz", scan(), "straight")
    write = NiftiSliceWriter.write

    def fill(writer: NiftiSliceWriter, slab: np.ndarray) -> None:
        if writer.written == 3:
            assert len(list((tmp_path / "out").iterdir())) == 1
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, slab)

    monkeypatch.setattr(NiftiSliceWriter, "write", fill)
    with pytest.raises(RuntimeError) as error:
        super_resolve(tmp_path / "in", tmp_path / "out", compress=compress)
    size = f"must have room for {'up to ' if compress else ''}{(352 + 2 * 104 * 72 * 5) / 1e9:.3g} GB. It filled up."
    assert isinstance(error.value.__cause__, DiskFullError)
    assert size in messages(error.value)
    assert "--region lung" in messages(error.value)
    assert list((tmp_path / "out").iterdir()) == []


# ---- what MONAI asks for


def test_inference_passes_the_preflight_and_has_monais_required_properties(tmp_path):
    save(tmp_path / "scan.nii.gz", scan(), "straight")
    parser = parsed()
    parser.parse()
    preflight.check(config=parser)
    workflow = ConfigWorkflow(
        config_file=str(CONFIG),
        workflow_type="infer",
        logging_file=False,
        meta_file=str(METADATA),
        bundle_root=str(BUNDLE),
        dataset_dir=str(tmp_path),
        output_dir=str(tmp_path / "out"),
        use_paper_network=True,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@needs_shared(*SCHEMA)
def test_metadata_is_valid():
    verify_metadata(meta_file=str(METADATA), filepath=str(shared(*SCHEMA)))


def test_metadata_says_what_other_consumers_ask_for():
    metadata = json.loads(METADATA.read_text())
    assert metadata["version"] in metadata["changelog"]
    for kind, name in (("inputs", "image"), ("outputs", "pred")):
        (entry,) = metadata["network_data_format"][kind].values()
        assert list(metadata["network_data_format"][kind]) == [name]
        assert entry["num_channels"] == len(entry["channel_def"]) == 1
    assert "common" not in metadata["required_packages_version"]
    assert "RESEARCH USE ONLY" in metadata["description"]


def test_the_papers_network_takes_and_gives_what_metadata_says():
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(METADATA),
        config_file=str(CONFIG),
        device="cpu",
        p=1,
        n=1,
        any=1,
        bundle_root=str(BUNDLE),
        use_paper_network=True,
    )
