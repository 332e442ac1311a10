"""NECT2CECT's inference: any grid comes back as it was, a change arrives where it belongs, bad input is named."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from common import preflight
from common.networks import SPADEGenerator, save_definition
from tests.helpers.bundles import ROOT, done, run
from tests.helpers.shared import needs_shared, shared

BUNDLE = ROOT / "bundles" / "nect2cect"
CONFIG = BUNDLE / "configs" / "inference.yaml"
METADATA = BUNDLE / "configs" / "metadata.json"
SCHEMA = ("data", "schema", "meta_schema_20240725.json")


def parsed(**overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser.update({"bundle_root": str(BUNDLE), "use_paper_network": True, **overrides})
    return parser


def enhance(source: Path, out: Path, network: type[torch.nn.Module] = torch.nn.Identity) -> None:
    """Runs the inference with a network that needs no weights."""
    places = {"dataset_dir": str(source), "output_dir": str(out)}
    parser = parsed(
        **places,
        network_def={"_target_": f"{network.__module__}.{network.__name__}"},
        handlers=[],
        device="$torch.device('cpu')",
    )
    parser.get_parsed_content("run")


def save(path: Path, volume: np.ndarray, affine: np.ndarray, axes: str = "RAS") -> Path:
    """Stores a volume (X, Y, Z) along RAS with its voxels in another order."""
    image = nib.Nifti1Image(volume.astype(np.int16), affine)
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(change), path)
    return path


def affine(spacing: tuple[float, float, float], degrees: float = 0.0) -> np.ndarray:
    """Turned about two axes, with an origin."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn @ np.diag(spacing), [-120.3, 41.7, 903.1]
    return matrix


GRIDS = {
    "trained": ((40, 32, 5), affine((4 / 3, 4 / 3, 3.0)), "LPS"),
    "odd_and_fine": ((71, 53, 4), affine((0.7, 0.7, 1.0)), "RAS"),
    "anisotropic": ((37, 61, 3), affine((0.6, 2.3, 5.0)), "LPI"),
    "oblique": ((45, 40, 6), affine((0.9, 0.9, 3.0), 20), "RAS"),
    "oblique_flipped": ((45, 40, 4), affine((0.9, 1.1, 3.0), -15), "LPI"),
    "coronal": ((38, 41, 9), affine((1.0, 3.0, 1.0)), "LSA"),
    "sagittal": ((21, 41, 9), affine((5.0, 0.8, 0.8)), "PSR"),
}


def scan(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Noise around soft tissue, air, padding of -2000, bone, and metal of 3000 HU."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(50, 30, shape)
    volume[:3] = -2000
    volume[3:6] = -1000
    volume[8:10, 8:10] = rng.uniform(200, 1500, volume[8:10, 8:10].shape)
    volume[-4:-2, -4:-2] = 3000
    return volume.round()


def outputs(folder: Path) -> dict[str, Path]:
    return {path.name.removesuffix("_synthetic_CECT.nii.gz"): path for path in folder.rglob("*.nii.gz")}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for name, (shape, matrix, axes) in GRIDS.items():
        save(folder / f"{name}.nii.gz", scan(shape), matrix, axes)
    return folder


def test_an_identity_network_gives_every_grid_back_exactly(scans, tmp_path):
    enhance(scans, tmp_path)
    found = outputs(tmp_path)
    assert set(found) == set(GRIDS)
    for name, path in found.items():
        source, output = nib.load(scans / f"{name}.nii.gz"), nib.load(path)
        assert output.get_data_dtype() == np.int16
        np.testing.assert_array_equal(np.asarray(output.dataobj), np.asarray(source.dataobj))
        np.testing.assert_allclose(output.affine, source.affine, atol=1e-4)
        assert nib.aff2axcodes(output.affine) == nib.aff2axcodes(source.affine)


class Brighter(torch.nn.Module):
    """Adds 15 HU, a tenth of half the window's width, to all three slices."""

    def forward(self, stacks: torch.Tensor) -> torch.Tensor:
        return stacks + 0.1


def test_only_the_change_is_resampled(tmp_path):
    """The same change everywhere survives resampling exactly, and leaves the noise of the source as sharp as it was."""
    rng = np.random.default_rng(0)
    for name, (shape, matrix, axes) in GRIDS.items():
        save(tmp_path / "in" / f"{name}.nii.gz", rng.integers(-80, 181, shape), matrix, axes)  # within the ramp
        corner = nib.load(tmp_path / "in" / f"{name}.nii.gz")
        array = np.asarray(corner.dataobj).copy()
        array[0, 0, 0] = -1000  # a CT has air
        nib.save(nib.Nifti1Image(array, corner.affine), corner.get_filename())
    enhance(tmp_path / "in", tmp_path / "out", Brighter)
    for name, path in outputs(tmp_path / "out").items():
        source = np.asarray(nib.load(tmp_path / "in" / f"{name}.nii.gz").dataobj).astype(int)
        change = np.asarray(nib.load(path).dataobj) - source
        far = np.ones(source.shape, bool)
        far[:4, :4, :4] = False  # around the air, where the encoded image is clipped
        assert set(np.unique(change[far])) == {15}, name


class Steeper(torch.nn.Module):
    """Makes what is bright brighter and what is dark darker, so that places can be told apart."""

    def forward(self, stacks: torch.Tensor) -> torch.Tensor:
        return stacks * 1.5


@pytest.mark.parametrize("axes", ["LPI", "PSR", "LSA"])
def test_a_change_arrives_in_its_place_however_the_volume_is_stored(tmp_path, axes):
    """A smooth object, stored along RAS and in another order: the same output, in that order."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (41, 37, 7)), indexing="ij")
    volume = 50 + 60 * x + 40 * y * z
    volume[0, 0, 0] = -1000
    for name in ("RAS", axes):
        save(tmp_path / name / "scan.nii.gz", volume, affine((0.9, 1.7, 3.0), 12), name)
        enhance(tmp_path / name, tmp_path / "out" / name, Steeper)
    plain, other = (nib.load(tmp_path / "out" / name / "scan_synthetic_CECT.nii.gz") for name in ("RAS", axes))
    back = np.asarray(nib.as_closest_canonical(other).dataobj)
    # Resampling begins in the first voxel of the stored volume, which is another corner: the last voxels differ.
    inner = (slice(3, -3), slice(3, -3), slice(None))
    assert np.abs(back.astype(int) - np.asarray(plain.dataobj))[inner].max() <= 1
    assert np.ptp(np.asarray(plain.dataobj)[inner] - volume[inner]) > 20


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A small network with random weights, as a training leaves it, for pixels of 4 mm."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = SPADEGenerator(channels=[8, 8], spade_channels=4)
    torch.save(network.state_dict(), folder / "model.pt")
    facts = {"codec": {"hu": [-100, 200]}, "domains": {"source": "NECT", "target": "CECT"}, "spacing_mm": [4.0, 4.0]}
    save_definition(folder / "network.json", network, **facts)
    return folder


def test_weights_run_as_users_run_them_at_the_spacing_that_they_belong_to(models, scans, tmp_path):
    arguments = ["--dataset_dir", scans, "--output_dir", tmp_path / "out", "--models_dir", models]
    done(run(BUNDLE, "inference", ["inference"], *arguments, cwd=tmp_path))
    found = outputs(tmp_path / "out")
    assert set(found) == set(GRIDS)
    for name, path in found.items():
        source, output = nib.load(scans / f"{name}.nii.gz"), nib.load(path)
        change = np.asarray(output.dataobj).astype(int) - np.asarray(source.dataobj)
        assert change.any()
        assert np.abs(change).max() <= 300


def test_a_volume_of_two_slices_is_refused_by_name_and_nothing_is_written(tmp_path):
    save(tmp_path / "in" / "short.nii.gz", scan((40, 32, 2)), affine((1.0, 1.0, 3.0)))
    with pytest.raises(RuntimeError) as error:
        enhance(tmp_path / "in", tmp_path / "out")
    chain, messages = error.value, []
    while chain is not None:
        messages.append(str(chain))
        chain = chain.__cause__
    assert any("short.nii.gz' has 2 axial slice(s)" in message for message in messages)
    assert not (tmp_path / "out").exists()


def test_an_enhanced_scan_and_tilted_slices_are_warned_of_but_translated(tmp_path):
    volume = np.full((60, 60, 12), -1000.0)
    volume[5:55, 5:55] = 50
    volume[20:35, 20:35] = 160
    save(
        tmp_path / "in" / "scan.nii.gz", volume + np.random.default_rng(0).normal(0, 5, volume.shape), affine((2, 2, 4))
    )
    with pytest.warns(UserWarning, match="scan.nii.gz' looks contrast-enhanced"):
        enhance(tmp_path / "in", tmp_path / "out")
    assert set(outputs(tmp_path / "out")) == {"scan"}
    save(tmp_path / "tilted" / "scan.nii.gz", scan((40, 40, 6)), affine((1.0, 1.0, 3.0), 35))
    with pytest.warns(UserWarning, match="tilted by 35 degrees"):
        enhance(tmp_path / "tilted", tmp_path / "out")


@needs_shared("data", "abdomen_ct")
def test_a_real_abdomen_keeps_its_geometry_and_hu_without_an_alarm(tmp_path):
    path = shared("data", "abdomen_ct") / "totalseg_example_ct_noncontrast_3mm.nii.gz"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        enhance(path, tmp_path)
    assert not [w for w in caught if "looks contrast-enhanced" in str(w.message) or "tilted" in str(w.message)]
    (output,) = (nib.load(p) for p in tmp_path.rglob("*.nii.gz"))
    source = nib.load(path)
    assert output.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(output.dataobj), np.asarray(source.dataobj))
    np.testing.assert_allclose(output.affine, source.affine, atol=1e-4)


# ---- what MONAI asks for


def test_inference_passes_the_preflight_and_has_monais_required_properties():
    parser = parsed()
    parser.parse()
    preflight.check(config=parser)
    workflow = ConfigWorkflow(
        config_file=str(CONFIG), workflow_type="infer", logging_file=False, bundle_root=str(BUNDLE)
    )
    missing = [
        name
        for name, entry in workflow.properties.items()
        if entry["required"] and entry["id"].replace("#", "::") not in workflow.parser
    ]
    assert missing == []


@needs_shared(*SCHEMA)
def test_metadata_is_valid():
    verify_metadata(meta_file=str(METADATA), filepath=str(shared(*SCHEMA)))


def test_metadata_says_what_other_consumers_ask_for():
    metadata = json.loads(METADATA.read_text())
    assert metadata["version"] in metadata["changelog"]
    formats = metadata["network_data_format"]
    for kind, name in (("inputs", "image"), ("outputs", "pred")):
        assert list(formats[kind]) == [name]
        assert formats[kind][name]["num_channels"] == len(formats[kind][name]["channel_def"]) == 3
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


def test_training_and_inference_read_and_encode_images_alike():
    training, inference = (
        yaml.safe_load((BUNDLE / "configs" / f"{name}.yaml").read_text()) for name in ("train", "inference")
    )
    evaluation = yaml.safe_load((BUNDLE / "configs" / "evaluate.yaml").read_text())
    assert evaluation["read"] is None
    assert {**training["load"], "read": "@read"} == inference["load"]
    assert training["encode"] == inference["to_network"]
    assert training["hu_range"] == inference["paper_network"]["codec"]["hu"]
    assert training["spacing_mm"] == inference["paper_network"]["spacing_mm"]
