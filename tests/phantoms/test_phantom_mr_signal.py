from __future__ import annotations

import math

import numpy as np
import pytest

from common.phantoms.brain.signal import Relaxation, SpinEcho, Texture, bias_field, rician_noise, spin_echo

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
