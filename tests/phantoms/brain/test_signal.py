"""The brain phantom with T2 and PD; and that T1 and T2 are what they were before there was PD."""

from __future__ import annotations

import json
import math

import nibabel
import numpy as np
import pytest

from common.phantoms import generate_phantom
from common.phantoms.brain.anatomy import LABEL_NAMES
from common.phantoms.brain.phantom import brain_parameters, brain_pd_parameters, make_brain, make_brain_pd
from common.phantoms.brain.signal import (
    T1_T2,
    T2_PD,
    Relaxation,
    SpinEcho,
    Texture,
    bias_field,
    rician_noise,
    spin_echo,
)

TISSUE = Relaxation(t1_ms=900, t2_ms=80, pd=0.7)


def test_long_repetition_and_short_echo_time_show_proton_density():
    assert spin_echo(TISSUE, SpinEcho(1e6, 1e-6)) == pytest.approx(0.7)


def test_recovery_and_decay_halve_after_ln2_of_their_times():
    assert spin_echo(TISSUE, SpinEcho(900 * math.log(2), 1e-6)) == pytest.approx(0.35)
    assert spin_echo(TISSUE, SpinEcho(1e6, 80 * math.log(2))) == pytest.approx(0.35)


def test_texture_scales_the_relaxation_times():
    log = np.array([-0.2, 0.0, 0.3], dtype=np.float32)
    sequence = SpinEcho(600, 50)
    textured = spin_echo(TISSUE, sequence, texture=Texture(t1=log, t2=-log, pd=2 * log))
    expected = [
        float(spin_echo(Relaxation(900 * math.exp(f), 80 * math.exp(-f), 0.7 * math.exp(2 * f)), sequence)) for f in log
    ]
    np.testing.assert_allclose(textured, expected, rtol=1e-5)


def test_noise_without_signal_is_rayleigh_distributed():
    noise = rician_noise(np.random.default_rng(0), np.zeros(200_000, dtype=np.float32), sd=3.0)
    # Gudbjartsson and Patz 1995: mean sd sqrt(pi / 2), variance (2 - pi / 2) sd^2.
    assert noise.mean() == pytest.approx(3 * math.sqrt(math.pi / 2), rel=0.01)
    assert noise.var() == pytest.approx(9 * (2 - math.pi / 2), rel=0.02)


def test_noise_on_a_strong_signal_is_nearly_gaussian():
    image = rician_noise(np.random.default_rng(0), np.full(200_000, 100.0, dtype=np.float32), sd=3.0)
    assert image.mean() == pytest.approx(math.sqrt(100**2 + 3**2), rel=0.001)
    assert image.std() == pytest.approx(3.0, rel=0.02)


def test_bias_field_is_smooth_and_has_its_sd_over_draws():
    rng = np.random.default_rng(0)
    fields = np.stack([bias_field(rng, (2, 32, 32), spacing_mm=(6, 8, 8), sd=0.1) for _ in range(60)])
    assert fields.std() == pytest.approx(0.1, rel=0.15)
    # Neighbours are 8 mm apart; the default filter width is 60 mm.
    assert np.abs(np.diff(fields, axis=2)).mean() < 0.02


LABELS = {name: value for value, name in LABEL_NAMES.items()}


@pytest.fixture(scope="module")
def patients():
    parameters = brain_pd_parameters(slices=4, size=128)
    return [make_brain_pd(patient, parameters) for patient in range(2)]


def test_t1_and_t2_are_bit_identical_to_those_before_pd():
    # Means and voxels of patient 1, seed 0, written down at the commit before `brain_pd` (9239848).
    volumes = make_brain(1, brain_parameters(slices=2, size=32))
    before = {"T1": (221.31079, 674.44586, 843.05273, 853.12366), "T2": (366.0003, 1704.8344, 1403.5184, 1538.6658)}
    for name, (mean, *voxels) in before.items():
        data = volumes[name].data
        found = [data[16, 16, 0], data[10, 16, 1], data[20, 22, 0]]
        np.testing.assert_allclose([data.mean(), *found], [mean, *voxels], rtol=1e-5)


def test_the_patients_are_those_of_the_brain_phantom(patients):
    same = make_brain(0, brain_parameters(slices=4, size=128))
    assert set(patients[0]) == {"T2", "PD", "label"}
    np.testing.assert_array_equal(patients[0]["label"].data, same["label"].data)
    for name in ("T2", "PD"):
        np.testing.assert_array_equal(patients[0][name].affine, same["T2"].affine)
    inside = same["label"].data > 0
    assert np.corrcoef(patients[0]["T2"].data[inside], same["T2"].data[inside])[0, 1] > 0.9


def test_both_echoes_have_one_repetition_time_and_the_brain_phantoms_are_as_published():
    assert T2_PD["T2"].sequence.tr_ms == T2_PD["PD"].sequence.tr_ms
    assert T2_PD["PD"].sequence.te_ms < 20 < 80 < T2_PD["T2"].sequence.te_ms
    assert {name: weighting.sequence for name, weighting in T1_T2.items()} == {
        "T1": SpinEcho(600, 10),
        "T2": SpinEcho(4500, 95),
    }


def test_proton_density_shows_grey_matter_above_white_with_little_contrast(patients):
    # From the signal equation: grey over white (.80 * .983 * .925) / (.71 * .999 * .899) = 1.14, T1/T2/PD at 3 T;
    # partial volume and texture take some of it away.
    for volumes in patients:
        label, pd = volumes["label"].data, volumes["PD"].data
        level = {name: np.median(pd[label == LABELS[name]]) for name in ("white_matter", "grey_matter", "ventricles")}
        assert 1.02 < level["grey_matter"] / level["white_matter"] < 1.18
        assert level["ventricles"] > level["white_matter"]
        assert (pd[label == 0] == 0).all()
        assert np.isfinite(pd).all()


def test_the_data_set_has_both_domains(tmp_path):
    path = generate_phantom("brain_pd", tmp_path, patients=4, slices=2, size=32, workers=1)
    datalist = json.loads(path.read_text())
    assert datalist["domains"] == ["T2", "PD"]
    assert datalist["parameters"]["kind"] == "brain_pd"
    for entry in (*datalist["training_paired"], *datalist["test"]):
        assert nibabel.load(tmp_path / entry["PD"]).shape == nibabel.load(tmp_path / entry["T2"]).shape == (32, 32, 2)
