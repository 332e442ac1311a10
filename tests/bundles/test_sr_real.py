"""SR-CycleGAN's inference of real volumes, and by the weights that the bundle ships."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from skimage.registration import phase_cross_correlation

from common.data import draw_patch, load_patch_volumes
from common.inference import TileInferer
from common.networks import load_weights
from tests.helpers.shared import needs_shared, shared

from .test_sr_inference import BUNDLE, CONFIG, FACTOR, messages, only, parsed, save, stand_in, super_resolve

CHEST_PARTS = ("data", "chest_ct", "lidc_idri_0314_native_40slices.nii.gz")
TOOTH_PARTS = ("data", "microct", "seg3d_tooth.nii.gz")
REAL_CHEST, TOOTH = shared(*CHEST_PARTS), shared(*TOOTH_PARTS)
SHIPPED = {key: yaml.safe_load(CONFIG.read_text())[key] for key in ("network_def", "handlers")}
SHIPPED |= {"models_dir": str(BUNDLE / "models"), "use_paper_network": False}


def real_part(path: Path, grid: str | None) -> tuple[nib.Nifti1Image, list[list[int]]]:
    """The real chest and a box of it, or that box alone on another grid."""
    chest, box = nib.load(REAL_CHEST), [[60, 124], [110, 174], [19, 21]]
    if grid is None:
        shutil.copyfile(REAL_CHEST, path)
        return chest, box
    part = nib.as_closest_canonical(chest.slicer[tuple(slice(*span) for span in box)])
    stored = save(path, np.asarray(part.dataobj), grid)
    return stored, [[0, size] for size in stored.shape]


@needs_shared(*CHEST_PARTS)
@pytest.mark.parametrize("grid", [None, "oblique_flipped", "turned"])
@pytest.mark.parametrize(
    ("network", "correlation"),
    [({"network_def": stand_in("bicubic")}, 0.999), (SHIPPED, 0.95)],
    ids=["bicubic", "shipped"],
)
def test_a_part_of_a_real_chest_lies_where_it_was(tmp_path, network, correlation, grid):
    """Re-projected by both files' affines: means of the output in the source's voxels, shift by phase correlation."""
    source, box = real_part(tmp_path / "scan.nii.gz", grid)
    super_resolve(tmp_path / "scan.nii.gz", tmp_path / "out", region=box, tile_size=32, **network)
    output = only(tmp_path / "out")
    spacing = nib.affines.voxel_sizes(nib.as_closest_canonical(output).affine)
    expected = nib.affines.voxel_sizes(nib.as_closest_canonical(source).affine) / (FACTOR, FACTOR, 1)
    np.testing.assert_allclose(spacing, expected, atol=1e-5)
    fine = np.stack(np.meshgrid(*(np.arange(n) for n in output.shape), indexing="ij"), -1).reshape(-1, 3)
    places = nib.affines.apply_affine(np.linalg.inv(source.affine) @ output.affine, fine)
    voxels = np.rint(places).astype(int) - np.array(box)[:, 0]
    part = np.asarray(source.dataobj)[tuple(slice(*span) for span in box)].astype(float).clip(-1200, 400)
    index = np.ravel_multi_index(tuple(voxels.T), part.shape)  # an error where one lies beyond the box
    counts = np.bincount(index, minlength=part.size)
    assert set(counts) == {FACTOR**2}
    back = np.bincount(index, weights=np.asarray(output.dataobj, dtype=float).ravel()).reshape(part.shape) / counts[0]
    axial = int(np.flatnonzero(nib.io_orientation(source.affine)[:, 0] == 2)[0])
    for first, second in zip(np.moveaxis(part, axial, 0), np.moveaxis(back, axial, 0)):
        shift, *_ = phase_cross_correlation(first, second, upsample_factor=100, normalization=None)
        assert np.abs(shift).max() < 0.1
    assert np.corrcoef(part.ravel(), back.ravel())[0, 1] > correlation


@needs_shared(*CHEST_PARTS)
def test_tiles_of_the_shipped_weights_are_the_whole_within_1_hu():
    """At the margin that the configs read off the network, whose receptive field it is; less of it is not enough."""
    parser = parsed(**SHIPPED)
    network = parser.get_parsed_content("network_def")
    load_weights(network, BUNDLE / "models" / "model.pt")
    chest = MetaTensor(nib.load(REAL_CHEST).dataobj[60:124, 110:160, 19:20].astype(np.float32)[None])
    image = parser.get_parsed_content("encode")({"image": chest})["image"].as_tensor()[None]
    with eval_mode(network):
        whole, tiled, cut = (
            800 * TileInferer(FACTOR, margin, tile_size=size)(image, network)
            for margin, size in ((network.margin, 0), (network.margin, 20), (0, 20))
        )
    assert float(whole.std()) > 100  # HU
    assert float((tiled - whole).abs().max()) < 1
    assert float((cut - whole).abs().max()) > 10


@needs_shared(*TOOTH_PARTS)
def test_a_real_micro_ct_without_hu_is_a_micro_volume_and_no_clinical_one(tmp_path):
    """Its header says 1 mm: it is read by the training's own transforms once the expected pixel does, too."""
    training = ConfigParser()
    training.read_config(str(BUNDLE / "configs" / "train.yaml"))
    with pytest.raises(RuntimeError) as error:
        training.get_parsed_content("prepare_micro")({"image": str(TOOTH)})
    assert "axial pixels of 1 x 1 mm, expected are 0.0781 x 0.0781 mm" in messages(error.value)
    training.update({"spacing_mm": [8.0, 8.0]})
    (volume,) = load_patch_volumes([{"image": str(TOOTH)}], training.get_parsed_content("prepare_micro"))
    patch = draw_patch(volume, (64, 64), np.random.default_rng(0))
    assert patch.shape == (1, 64, 64)
    assert -1 <= patch.min() < patch.max() <= 1
    with pytest.raises(RuntimeError) as error:
        super_resolve(TOOTH, tmp_path / "out")
    assert "seg3d_tooth.nii.gz' is not a CT in HU" in messages(error.value)
