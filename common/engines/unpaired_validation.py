"""Validation without pairs: the metrics that choose the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..metrics import unpaired_metrics


class UnpairedValidation:
    """
    Puts `unpaired_score` and its parts into an evaluator's metrics; and `psnr`, where the validation set has pairs.

    The score needs no pairs and is what selects the network. PSNR is written beside it, to show how far the two agree,
    and selects nothing.

    Args:
        references: real slices of the target domain, each (C, H, W) in [-1, 1]; of other patients than the sources.
    """

    def __init__(self, references: Sequence[torch.Tensor]) -> None:
        self.references = _slices([reference[None] for reference in references])

    def attach(self, evaluator: Engine) -> None:
        evaluator.add_event_handler(Events.EPOCH_STARTED, self._reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._compute)

    def _reset(self, _: Engine) -> None:
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

    def _compute(self, engine: Engine) -> None:
        size = [max(slices.shape[axis] for slices in self.sources) for axis in (2, 3)]
        metrics = unpaired_metrics(_joined(self.sources, size), _joined(self.outputs, size), self.references)
        if self.psnr:
            metrics["psnr"] = float(torch.cat(self.psnr).mean())
        engine.state.metrics.update(metrics)


def _joined(slices: list[torch.Tensor], size: list[int]) -> torch.Tensor:
    """Slices of patients of different sizes in one tensor: padded with background."""
    padding = [(0, size[1] - s.shape[3], 0, size[0] - s.shape[2]) for s in slices]
    return torch.cat([torch.nn.functional.pad(s, p, value=-1.0) for s, p in zip(slices, padding)])


def _slices(images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Images (B, C, H, W[, D]) as batches of 2-D slices (N, C, H, W), in float32 on the CPU."""
    plain = [torch.as_tensor(image).detach().float().cpu() for image in images]
    return [image.movedim(-1, 1).flatten(0, 1) if image.dim() == 5 else image for image in plain]
