"""Conversions between kernels: resumed trainings, volumes bound to their own target, validation without pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRanged
from scipy.ndimage import gaussian_filter
from torch.utils.data import DataLoader

from common.baselines.kernels.reference import kernel_references
from common.baselines.kernels.training import (
    FILTERS,
    fit_measured,
    measure_domains,
    save_kernel_filters,
    start_from_filters,
)
from common.data import DomainVolume, EpochSampler, MultiDomainDataset
from common.engines import (
    ConversionBatch,
    FilterTranslator,
    KernelValidation,
    TranslationTrainer,
    VolumeTranslator,
    with_filters,
    with_weights_before,
)
from common.engines.validation import low_pass_change
from common.inference import ConversionInferer
from common.methods import ConversionLabels, DomainLabels
from common.networks import CompactGenerator, PhysicsGenerator, WithTarget, save_definition
from tests.helpers.stargan import SIZE, stargan

DOMAINS = ["soft", "sharp"]
SIGMA_MM = {"soft": 0.7, "sharp": 0.4}


def scan(domain: str, seed: int, slices: int = 2) -> np.ndarray:
    """White noise and a disc of tissue in air, blurred by a Gaussian kernel: (96, 96, slices) in HU at 0.7 mm."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96] - 47.5
    tissue = np.where(np.hypot(x, y) < 40, 40.0, -1000.0)[..., None] + rng.normal(0, 200, (96, 96, slices))
    return gaussian_filter(tissue, [SIGMA_MM[domain] / 0.7] * 2 + [0]).round()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    data = {d: [(scan(d, 10 * i + j), (0.7, 0.7)) for j in range(3)] for i, d in enumerate(DOMAINS)}
    spectra = measure_domains(data)
    save_kernel_filters(folder / FILTERS, fit_measured(spectra), kernel_references(spectra))
    return folder


def trainer(folder: Path, epochs: int, *, resume: bool = False) -> TranslationTrainer:
    rng = np.random.default_rng(0)
    volumes = [
        DomainVolume(rng.integers(-1000, 1000, (2, SIZE, SIZE)).astype(np.int16), (0.7, 0.7), d, d) for d in "abc"
    ]
    scale = ScaleIntensityRanged("image", -1024, 3071, -1, 1, clip=True)
    dataset = MultiDomainDataset(volumes, list("abc"), transform=scale)
    loader = DataLoader(dataset, 2, sampler=EpochSampler(len(dataset)))
    method = stargan("kcgan", critic_steps=2)
    places = {"output_dir": folder / "out", "models_dir": folder / "models"}
    return TranslationTrainer("cpu", epochs, loader, method, progress=False, log_interval=1, resume=resume, **places)


def test_a_resumed_training_is_bitwise_the_whole_one_in_the_middle_of_the_critics_turns(tmp_path):
    """Three iterations an epoch and two critic steps: the turns do not begin anew with an epoch."""
    whole = trainer(tmp_path / "whole", 2)
    whole.run()
    trainer(tmp_path / "parts", 1).run()
    part = trainer(tmp_path / "parts", 2, resume=True)
    part.run()
    for name, network in whole.method.networks.items():
        torch.testing.assert_close(part.method.networks[name].state_dict(), network.state_dict(), rtol=0, atol=0)


def volume(data: np.ndarray, source: str, flipped: bool = False) -> MetaTensor:
    affine = torch.diag(torch.tensor([-0.7 if flipped else 0.7, 0.7, 2.0, 1.0], dtype=torch.float64))
    return MetaTensor(torch.from_numpy(data)[None], affine=affine, meta={"source_domain": source})


@pytest.mark.parametrize("flipped", [False, True])
def test_the_fitted_filter_is_applied_in_the_patients_axial_plane(models, flipped):
    sharp = scan("sharp", 99)
    translators = with_filters({}, models)
    assert list(translators) == ["identity", "radial_filter_unpaired", "band_energy"]
    source = volume(sharp, "sharp", flipped)
    assert translators["identity"](source, "soft") is source
    result = translators["radial_filter_unpaired"](source, "soft")
    blur = np.sqrt(SIGMA_MM["soft"] ** 2 - SIGMA_MM["sharp"] ** 2) / 0.7  # variances of Gaussian kernels add
    expected = gaussian_filter(sharp, [blur, blur, 0])
    inner = (slice(24, 72), slice(24, 72))
    error = np.abs(result[0].numpy() - expected)[inner].mean()
    assert error < 0.25 * np.abs(sharp - expected)[inner].mean()
    torch.testing.assert_close(result.affine, source.affine)
    assert (result.numpy() == result.numpy().round()).all()


def test_without_the_file_only_the_identity_is_compared_and_it_is_said(tmp_path, caplog):
    assert list(with_filters({}, tmp_path)) == ["identity"]
    assert "the network is compared with the identity only" in caplog.text


def test_a_filter_needs_to_know_the_source(models):
    translate = with_filters({}, models)["radial_filter_unpaired"]
    assert isinstance(translate, FilterTranslator)
    with pytest.raises(ValueError, match="must name its source kernel in meta\\['source_domain'\\]"):
        translate(MetaTensor(torch.zeros(1, 96, 96, 1)), "soft")


def test_a_physics_network_starts_as_the_unpaired_filter_of_each_volumes_kernel_and_pixel_size(models):
    generator = PhysicsGenerator(2, channels=4, num_res_blocks=1)
    start_from_filters(generator, models, DOMAINS)
    network = WithTarget(generator, [1.0, 0.0])
    source = volume(scan("sharp", 99), "sharp").clamp(-1024, 3071)
    filtered = with_filters({}, models)["radial_filter_unpaired"](source, "soft")[0].numpy()
    with torch.no_grad():
        output = ConversionInferer(DOMAINS)((source[None].float() + 1024) / 2047.5 - 1, network)
    result = (output[0, 0].numpy() + 1) * 2047.5 - 1024
    inner = (slice(20, 76), slice(20, 76))
    assert np.abs(result - filtered)[inner].mean() < 0.03 * np.abs(source[0].numpy() - filtered)[inner].mean()


def test_a_physics_network_refuses_images_without_source_or_affine():
    network = WithTarget(PhysicsGenerator(2, channels=0), [1.0, 0.0])
    with pytest.raises(ValueError, match="must name its source kernel"):
        ConversionInferer(DOMAINS)(MetaTensor(torch.zeros(1, 1, 40, 40, 1)), network)


@pytest.mark.parametrize(("labels", "size"), [(DomainLabels(2), 2), (ConversionLabels(2), 5)])
def test_validation_tells_the_network_its_target(labels, size):
    batch = {
        "image": torch.zeros(1, 1, 8, 8),
        "source": torch.tensor([0]),
        "target": torch.tensor([1]),
        "spacing_mm": torch.tensor([0.7]),
    }
    image, label, (vector,), options = ConversionBatch(labels)(batch, "cpu")
    assert image.shape == (1, 1, 8, 8)
    assert label is None
    assert vector.shape == (1, size)
    assert vector[0, :2].tolist() == [0.0, 1.0]
    assert options == {}


def test_validation_of_one_direction_gives_the_network_the_image_alone():
    batch = {"image": torch.zeros(1, 1, 8, 8), "label": torch.ones(1, 1, 8, 8), "target": torch.tensor([1])}
    image, label, arguments, options = ConversionBatch(None)(batch, "cpu")
    assert torch.equal(image, batch["image"])
    assert torch.equal(label, batch["label"])
    assert (arguments, options) == ((), {})


def scores(models: Path, convert) -> dict[str, float]:
    """The handler's metrics for two patients whose soft images are converted to sharp ones by `convert`."""
    handler = KernelValidation(models, DOMAINS, (-1024, 3071))
    engine = SimpleNamespace(state=SimpleNamespace())
    handler._reset(engine)
    for patient in (50, 51):
        soft, sharp = (scan(domain, patient) for domain in DOMAINS)
        result = convert(soft, sharp)
        for z in range(soft.shape[-1]):
            encoded = [
                torch.from_numpy((v[None, None, ..., z] + 1024) / 2047.5 - 1).clamp(-1, 1)
                for v in (soft, result, sharp)
            ]
            place = {"source": torch.tensor([0]), "target": torch.tensor([1]), "spacing_mm": torch.tensor([0.7])}
            engine.state.batch = {"image": encoded[0], **place}
            engine.state.output = dict(zip(("image", "pred", "label"), encoded))
            handler._collect(engine)
    return handler._compute()


def test_the_unpaired_score_prefers_the_right_kernel_and_punishes_a_shift_of_hu(models):
    truth = scores(models, lambda soft, sharp: sharp)
    identity = scores(models, lambda soft, sharp: soft)
    shifted = scores(models, lambda soft, sharp: sharp + 20)
    assert truth["unpaired_score"] < identity["unpaired_score"]
    assert truth["unpaired_score"] < shifted["unpaired_score"]
    assert truth["spectrum_distance"] < identity["spectrum_distance"]
    assert identity["low_pass_change"] == 0
    assert scores(models, lambda soft, sharp: soft + 20)["low_pass_change"] == pytest.approx(20, rel=0.06)
    assert truth["psnr"] > 80
    stored = [[scan(domain, patient).clip(-1024, 3071) for domain in DOMAINS] for patient in (50, 51)]
    mean_square = np.mean([(soft - sharp) ** 2 for soft, sharp in stored])
    assert identity["psnr"] == pytest.approx(10 * np.log10(4095**2 / mean_square), abs=0.05)


def test_the_low_pass_change_leaves_out_air_whose_clipped_noise_is_no_reference():
    source = np.full((96, 96), 40.0)
    source[:, :48] = -990.0
    converted = source.copy()
    converted[:, :32] += 15.0  # air alone, far from the tissue
    assert low_pass_change(converted, source, 0.7) < 0.1
    assert low_pass_change(source + 15.0, source, 0.7) == pytest.approx(15.0)
    assert low_pass_change(np.full((8, 8), -950.0), np.full((8, 8), -1000.0), 0.7) == 0.0


def weights_in(folder, *, channels=(4,), **facts):
    """A training's two files of a small network."""
    folder.mkdir()
    network = CompactGenerator(channels=list(channels), num_res_units=0, num_groups=0)
    torch.save(network.state_dict(), folder / "model.pt")
    save_definition(folder / "network.json", network, **facts)
    return network


def doubled(item, source, target):
    return {**item, target: item[source] * 2}


def test_weights_before_are_those_of_their_folder_in_the_same_encoding(tmp_path):
    """Independent: the two networks by hand, on an image that is doubled before and after."""
    facts = {"codec": {"percentiles": [1, 99], "reference": [0, 9]}, "domains": {"source": "T1", "target": "T2"}}
    after = weights_in(tmp_path / "after", **facts)
    before = weights_in(tmp_path / "before", **{**facts, "codec": {"percentiles": [1, 99], "reference": [0, 5]}})
    translate = VolumeTranslator(
        after, partial(doubled, source="image", target="image"), partial(doubled, source="pred", target="pred")
    )
    made = with_weights_before(translate, tmp_path / "after", tmp_path / "before")
    assert list(made) == ["network", "before"]
    image = MetaTensor(torch.rand(1, 16, 16))
    with torch.no_grad():
        expected = [network(image[None] * 2)[0] * 2 for network in (after, before)]
    for translator, volume in zip(made.values(), expected, strict=True):
        assert torch.equal(translator(image, "T2").as_tensor(), volume.as_tensor())
    assert list(with_weights_before(translate, tmp_path / "after", None)) == ["network"]


def test_weights_of_another_encoding_are_not_scored_beside(tmp_path):
    after = weights_in(tmp_path / "after", codec={"hu": [-1024, 3071]})
    weights_in(tmp_path / "before", codec={"hu": [-100, 200]})
    translate = VolumeTranslator(after, dict, dict)
    with pytest.raises(ValueError, match=r"differ in \['codec'\]: evaluate each on its own"):
        with_weights_before(translate, tmp_path / "after", tmp_path / "before")
