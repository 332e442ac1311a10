"""The report's table of blends: there with its numbers, absent without."""

from __future__ import annotations

from common.reports.inputs import Inputs, read_inputs
from common.reports.sections import blend_section


def scores(psnr: float, noise_error: float) -> dict[str, dict[str, float]]:
    values = {"psnr": psnr, "ssim": 0.9, "rmse": 12.3456, "noise_sd": 40.0, "noise_sd_error": noise_error}
    return {metric: {"mean": value, "std": 0.5, "n": 8} for metric, value in values.items()}


def test_blends_have_a_table_in_which_the_blend_of_outputs_stands_beside_the_network():
    methods = {"identity": scores(30, 0.5), "blend_of_outputs": scores(46, 0.2), "network": scores(45, 0.1)}
    section = blend_section(Inputs(blends={"B50f->0.5B30f+0.5B70f": methods}))
    assert "B50f → 0.5B30f+0.5B70f" in section
    order = [section.index(name) for name in (">Network<", "Blend of the network&#39;s outputs", "Identity")]
    assert order == sorted(order)
    assert "<b>46.00</b>" in section  # the best PSNR
    assert "<b>10.0%</b>" in section  # the noise nearest to the target's
    assert "RMSE (HU)" in section


def test_without_blends_there_is_no_section(tmp_path):
    assert blend_section(Inputs()) == ""
    (tmp_path / "summary.json").write_text("{}")
    assert read_inputs(tmp_path).blends == {}
    (tmp_path / "blends.json").write_text('{"a->0.5a+0.5b": {}}')
    assert list(read_inputs(tmp_path).blends) == ["a->0.5a+0.5b"]
