"""The metrics that choose a checkpoint, as an evaluator reports them."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch import nn
from torch.utils.data import DataLoader

from common.engines import PairedValidation, UnpairedValidation, lower_is_better
from common.metrics import score, unpaired_metrics


class Negate(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return -image


def slices(seed: int, *sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, *size, generator=generator) * 1.8 - 0.8 for size in sizes]


def metrics(images: list[dict[str, torch.Tensor]], references: list[torch.Tensor] | None) -> dict[str, float]:
    """Of unpaired validation, or of paired validation where there are no references."""
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(images, batch_size=1),
        network=Negate(),
        val_handlers=[PairedValidation(0.9) if references is None else UnpairedValidation(references)],
        decollate=False,
    )
    evaluator.run()
    return dict(evaluator.state.metrics)


def test_it_reports_the_metrics_of_all_slices_together():
    images, references = slices(0, *[(40, 40)] * 3), slices(1, *[(40, 40)] * 2)
    found = metrics([{"image": image} for image in images], references)
    expected = unpaired_metrics(torch.stack(images), -torch.stack(images), torch.stack(references))
    assert found == pytest.approx(expected)
    assert "psnr" not in found


def test_psnr_is_shown_where_there_are_pairs():
    (image,) = slices(0, (40, 40))
    label = (-image).clamp(-1, 1) + 0.1
    found = metrics([{"image": image, "label": label}], slices(1, (40, 40)))
    assert found["psnr"] == pytest.approx(20 * torch.log10(torch.tensor(2 / 0.1)).item(), abs=1e-3)


def test_slices_of_different_sizes_and_volumes_are_taken():
    """Oblique volumes resampled to one spacing differ by a pixel."""
    images = slices(0, (40, 41), (41, 40))
    assert metrics([{"image": image} for image in images], slices(1, (40, 40), (42, 40)))["unpaired_score"] > 0
    volume = torch.stack(slices(2, *[(40, 40)] * 3), dim=-1)
    assert metrics([{"image": volume}], slices(1, (40, 40)))["unpaired_score"] > 0


def test_the_score_is_the_key_metric_of_an_evaluator_under_the_name_that_it_is_given():
    images, references = slices(0, (40, 40)), slices(1, (40, 40))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader([{"image": image} for image in images], batch_size=1),
        network=Negate(),
        key_val_metric={"score": UnpairedValidation(references)},
        metric_cmp_fn=lower_is_better,
        decollate=False,
    )
    for best, expected in ((0.0, 0.0), (1e6, None)):
        evaluator.state.best_metric, evaluator.state.best_metric_epoch = best, 1
        evaluator.run()
        found = evaluator.state.metrics["score"]
        assert found == evaluator.state.metrics["unpaired_score"] > 0
        assert evaluator.state.best_metric == (found if expected is None else expected)


def test_paired_validation_is_the_mean_of_the_papers_scores():
    """Those of `score`, which follow section 3 of the paper; a slice at a time, whatever the batch holds."""
    images, labels = slices(0, (40, 40), (44, 40)), [-image.sqrt() for image in slices(0, (40, 40), (44, 40))]
    labels = [torch.nan_to_num(label, nan=-0.9) for label in labels]
    found = metrics([{"image": image, "label": label} for image, label in zip(images, labels)], None)
    expected = []
    for image, label in zip(images, labels):
        volumes = ((-image).clamp(-1, 1)[0, ..., None].numpy(), label[0, ..., None].numpy())
        expected.append(score(*volumes, spacing_mm=[0.9, 0.9], data_range=2.0))
    for name in ("ssim_matched", "psnr_matched"):
        assert found[name] == pytest.approx(sum(each[name] for each in expected) / 2)
    assert found["paired_score"] == pytest.approx(1 - found["ssim_matched"])


def test_paired_validation_without_pairs_is_refused():
    with pytest.raises(ValueError, match=r"`validation` of the datalist must name both domains of each patient"):
        metrics([{"image": slices(0, (40, 40))[0]}], None)
