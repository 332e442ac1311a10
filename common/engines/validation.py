"""Validation without pairs: the metrics that select the checkpoint, for any translation and for kernel conversions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from scipy.ndimage import gaussian_filter

from ..baselines.kernels.reference import kernel_distances
from ..baselines.kernels.training import FILTERS, load_kernel_references
from ..devices import to_device
from ..metrics.score import score
from ..metrics.unpaired import unpaired_metrics

LOW_PASS_MM = 3.0  # reconstruction kernels agree below 0.1 lp/mm
LOWEST_MEAN_HU = -900.0  # below it the low-passed source is biased by noise that is clipped at -1024 HU
TOLERANCE_HU = 5.0  # change of the low-passed image that counts as much as a spectrum 1 SD away
SCORE = "unpaired_score"


def lower_is_better(current: float, best: float) -> bool:
    """Compare two values of `unpaired_score` or `paired_score`, as MONAI's `metric_cmp_fn`."""
    return current < best


class _KeyMetric:
    """A score that is attached as a handler, or as the `key_val_metric` of an evaluator under a name."""

    score = SCORE

    def attach(self, evaluator: Engine, name: str | None = None) -> None:
        evaluator.add_event_handler(Events.EPOCH_STARTED, self._reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._publish, name or self.score)

    def _publish(self, engine: Engine, name: str) -> None:
        metrics = self._compute()
        engine.state.metrics.update({name: metrics[self.score], **metrics})

    def _reset(self, engine: Engine) -> None:
        raise NotImplementedError

    def _collect(self, engine: Engine) -> None:
        raise NotImplementedError

    def _compute(self) -> dict[str, float]:
        raise NotImplementedError


class ConversionBatch:
    """MONAI's `prepare_batch` for the items of `common.data.conversions`, which passes the label to the network.

    Args:
        labels: Function from (target, source, spacing_mm) to the network's label as in training, see
            `common.methods.DomainLabels`; None for a network of one direction, which is given the image alone.
    """

    def __init__(self, labels: Callable[..., torch.Tensor] | None) -> None:
        self.labels = labels

    def __call__(
        self, batch: dict[str, torch.Tensor], device: Any = None, non_blocking: bool = False, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[torch.Tensor, ...], dict[str, Any]]:
        parts = {name: to_device(value, device) for name, value in batch.items()}
        if self.labels is None:
            return parts["image"], parts.get("label"), (), {}
        label = self.labels(parts["target"], parts["source"], parts["spacing_mm"])
        return parts["image"], parts.get("label"), (label,), {}


class KernelValidation(_KeyMetric):
    """The key metric of an evaluator, or a handler: adds `unpaired_score`, its parts and, with pairs, `psnr`.

    `spectrum_distance` is the distance of the conversions' power spectra (noise in uniform tissue, whole image) from
    those of the target kernel's training images, in SDs of the latter. `low_pass_change` is the RMS change in HU of the
    image below 0.1 lp/mm, where all kernels agree, outside of air (whose clipped noise makes a sharp kernel's mean too
    high). `unpaired_score` is the former plus the latter in units of 5 HU; lower is better. PSNR (range of the HU
    codec) is only reported and selects nothing.

    Args:
        models_dir: Folder of `filters.json`, whose reference spectra are read at the end of a validation.
        domains: Names of the kernels.
        hu_range: HU that are encoded as -1 and 1.
    """

    def __init__(self, models_dir: str | Path, domains: Sequence[str], hu_range: Sequence[float]) -> None:
        self.path = Path(models_dir) / FILTERS
        self.domains = list(domains)
        self.low, self.width = float(hu_range[0]), float(hu_range[1] - hu_range[0])

    def _reset(self, engine: Engine) -> None:
        # A patient's slices belong together: patients are distinguished by their pixel size and kernels.
        self.outputs: dict[tuple[float, int, int], list[np.ndarray]] = {}
        self.changes: list[float] = []
        self.psnr: list[float] = []

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        for i in range(len(batch["image"])):
            spacing = float(batch["spacing_mm"][i])
            source, converted = self._hu(output["image"][i]), self._hu(output["pred"][i].clamp(-1, 1))
            key = (spacing, int(batch["source"][i]), int(batch["target"][i]))
            self.outputs.setdefault(key, []).append(converted)
            self.changes.append(low_pass_change(converted, source, spacing))
            if output.get("label") is not None:
                error = np.mean((converted - self._hu(output["label"][i])) ** 2)
                self.psnr.append(float(10 * np.log10(self.width**2 / max(error, 1e-9))))

    def _compute(self) -> dict[str, float]:
        references = load_kernel_references(self.path)
        if references is None:
            raise ValueError(f"{str(self.path)!r} must hold the kernels' reference spectra; training writes it.")
        distances = []
        for (spacing, _, target), slices in self.outputs.items():
            found = kernel_distances(np.stack(slices, axis=-1), (spacing, spacing), references)
            distances.append(found[self.domains[target]])
        metrics = {"spectrum_distance": float(np.mean(distances)), "low_pass_change": float(np.mean(self.changes))}
        metrics[SCORE] = metrics["spectrum_distance"] + metrics["low_pass_change"] / TOLERANCE_HU
        if self.psnr:
            metrics["psnr"] = float(np.mean(self.psnr))
        return metrics

    def _hu(self, image: torch.Tensor) -> np.ndarray:
        plain = torch.as_tensor(image)[0].detach().float().cpu().numpy()
        return (plain + 1) / 2 * self.width + self.low


def low_pass_change(converted: np.ndarray, source: np.ndarray, spacing_mm: float) -> float:
    """Return the RMS change in HU below 0.1 lp/mm where the low-passed source is above -900 HU; 0 if it is nowhere.

    Args:
        converted: Converted slice (H, W) in HU.
        source: Source slice (H, W) in HU.
        spacing_mm: Pixel size in mm.
    """
    sigma = LOW_PASS_MM / spacing_mm
    smooth_source = gaussian_filter(source, sigma)
    tissue = smooth_source > LOWEST_MEAN_HU
    if not tissue.any():
        return 0.0
    change = gaussian_filter(converted, sigma) - smooth_source
    return float(np.sqrt(np.mean(change[tissue] ** 2)))


class UnpairedValidation(_KeyMetric):
    """The key metric of an evaluator, or a handler: adds `unpaired_score`, its parts and, with pairs, `psnr`.

    The score needs no pairs and selects the network. PSNR is only reported, to show how well the two agree.

    Args:
        references: Real slices (C, H, W) of the target domain in [-1, 1], from other patients than the sources; of
            many volumes some are used, see `common.data.many`.
    """

    def __init__(self, references: Sequence[torch.Tensor]) -> None:
        sample = getattr(references, "sample", None)  # of `common.data.datasets.LazyImages`
        references = references if sample is None else sample()
        self.references = _slices([reference[None] for reference in references])

    def _reset(self, engine: Engine) -> None:
        self.sources: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []
        self.psnr: list[torch.Tensor] = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self.sources += _slices([output["image"]])
        self.outputs += _slices([output["pred"]])
        if output.get("label") is not None:
            for pred, label in zip(_slices([output["pred"]]), _slices([output["label"]])):
                error = (pred.clamp(-1, 1) - label).square().flatten(1).mean(1)
                self.psnr.append(10 * torch.log10(4 / error.clamp_min(1e-12)))  # the range of [-1, 1] is 2

    def _compute(self) -> dict[str, float]:
        metrics = unpaired_metrics(_joined(self.sources), _joined(self.outputs), self.references)
        if self.psnr:
            metrics["psnr"] = float(torch.cat(self.psnr).mean())
        return metrics


class PairedValidation(_KeyMetric):
    """The key metric of an evaluator, or a handler: adds `paired_score`, of true pairs, and its parts.

    `ssim_matched` and `psnr_matched` are those of `common.metrics.score`, slice by slice: after histogram matching to
    the truth and 0.5 mm smoothing, as in section 3 of Jaouen et al., ISBI 2024, whose weights are those of the highest
    mean SSIM on paired validation images. `paired_score` is 1 minus that mean; lower is better.

    Args:
        pixel_mm: Pixel size of the slices, in mm.

    Raises:
        ValueError: When called, if an image has no pair.
    """

    score = "paired_score"

    def __init__(self, pixel_mm: float = 1.0) -> None:
        self.pixel_mm = float(pixel_mm)

    def _reset(self, engine: Engine) -> None:
        self.scores: list[dict[str, float]] = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        if output.get("label") is None:
            raise ValueError("`validation` of the datalist must name both domains of each patient, to select by pairs.")
        for pred, label in zip(_slices([output["pred"]])[0], _slices([output["label"]])[0]):
            volumes = (image.clamp(-1, 1).movedim(0, -1).numpy() for image in (pred, label))
            self.scores.append(score(*volumes, spacing_mm=[self.pixel_mm] * 2, data_range=2.0))

    def _compute(self) -> dict[str, float]:
        means = {name: float(np.mean([s[name] for s in self.scores])) for name in ("ssim_matched", "psnr_matched")}
        return {self.score: 1.0 - means["ssim_matched"], **means}


def _joined(slices: list[torch.Tensor]) -> torch.Tensor:
    """Return slices of patients of different sizes in one tensor, padded with background."""
    size = [max(s.shape[axis] for s in slices) for axis in (2, 3)]
    padding = [(0, size[1] - s.shape[3], 0, size[0] - s.shape[2]) for s in slices]
    return torch.cat([torch.nn.functional.pad(s, p, value=-1.0) for s, p in zip(slices, padding)])


def _slices(images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return images (B, C, H, W[, D]) as batches of 2-D slices (N, C, H, W), in float32 on the CPU."""
    plain = [torch.as_tensor(image).detach().float().cpu() for image in images]
    return [image.movedim(-1, 1).flatten(0, 1) if image.dim() == 5 else image for image in plain]
