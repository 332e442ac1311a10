"""Evaluation of super-resolution: outputs on a finer grid than their source, against a truth of thinner slices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from ..baselines.base import Interpolation
from ..images.grids import finer_affine
from ..images.names import file_name
from ..metrics.summary import NETWORK
from ..metrics.super_resolution import super_resolution_metrics, thick_slices
from .evaluator import TRUTH, TranslationEvaluator, axial
from .translator import Translator

SHOWN = "bicubic"  # the baseline that the report shows beside the network
REDUCED = "reduced"  # in the name of a source that was made of its truth


class InterpolationTranslator:
    """An interpolation as a `Translator`, except that its output has pixels `factor` times as fine.

    Args:
        mode: Interpolation, "nearest" or "bicubic".
        factor: Ratio of the source's to the output's pixel size, >= 1.
    """

    def __init__(self, mode: str, factor: int) -> None:
        self.interpolation = Interpolation(mode, factor)

    def __call__(self, volume: MetaTensor, target: str) -> MetaTensor:
        """Map `(1, X, Y, Z)` to `(1, factor X, factor Y, Z)` along the patient's axes (RAS), axial slices last."""
        canonical = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(volume[0]), np.asarray(volume.affine)))
        finer = self.interpolation.predict(np.asarray(canonical.dataobj))[None]
        affine = finer_affine(np.asarray(canonical.affine), self.interpolation.factor)
        data = torch.from_numpy(np.ascontiguousarray(finer))
        return MetaTensor(data, affine=torch.as_tensor(affine), meta=_other_meta(volume))


class SuperResolutionEvaluator(TranslationEvaluator):
    """A `TranslationEvaluator` for outputs whose pixels are finer than their source's.

    Slices of an output are as thick as those of its source. The truth under `truth_key`, on the micro grid, is averaged
    over their thickness; a case without a truth (a patient) is scored by its consistency with the source alone. For the
    report the averaged truth, the most frequent label of the micro slices, and the bicubic interpolation are saved too.

    A whole volume is held in memory, so this is for phantoms and regions.

    Args:
        device: Device of the network.
        cases: Items with the path of the source, `patient`, and optionally `truth_key` and `label` on the micro grid.
        load: Function that loads a volume, see `TranslationEvaluator`.
        translators: Translators from the source to outputs of finer pixels, by name.
        truth_key: Key of the truth, which is in the source's unit.
        save_as: Function from a target's name and a data type to a transform that saves `{"pred": volume}`, such as
            `save_volume` with its other arguments bound.
        data_range: Intensity range for PSNR and SSIM.
        reduce: Transform from a truth `{"image": volume}` to the source that is made of it, on wider pixels; the key of
            the source then names the same file. Default: sources are volumes of their own.
        others: Further arguments of `TranslationEvaluator`.

    Raises:
        ValueError: If a truth or label map is not on the grid of the outputs.
    """

    def __init__(
        self,
        device: str | torch.device,
        cases: Sequence[dict[str, Any]],
        load: Callable,
        translators: Mapping[str, Translator],
        *,
        truth_key: str,
        save_as: Callable[..., Callable],
        data_range: float,
        reduce: Callable | None = None,
        **others: Any,
    ) -> None:
        self.truth_key, self.save_as, self.reduce = truth_key, save_as, reduce
        options: dict[str, Any] = {"save": save_as, "data_range": data_range, **others}
        super().__init__(device, cases, load, translators, **options)

    def _needed(self, direction: Sequence[str]) -> Sequence[str]:
        if self.reduce is not None:
            return [self.truth_key]
        return direction[:1]  # a case without a truth is scored by its consistency with the source

    def _evaluate_case(self, engine: Engine, item: dict[str, Any]) -> list[dict[str, Any]]:
        case, (source, target) = item["case"], item["direction"]
        names = {"patient": str(case.get("patient", Path(case[source]).name)), "direction": f"{source}->{target}"}
        truth = self.load({"image": case[self.truth_key]})["image"] if case.get(self.truth_key) else None
        volume = (self.reduce({"image": truth}) if self.reduce else self.load({"image": case[source]}))["image"]
        labels = self.load_label({"image": case["label"]})["image"] if case.get("label") else None
        if truth is None:
            self._warn(TRUTH, names, f"no truth {self.truth_key!r}; only its consistency with the source counts.")
        outputs: dict[str, MetaTensor] = {}
        rows = []
        for method, translate in self.translators.items():
            assert not isinstance(translate, Mapping)  # there is one direction
            outputs[method] = translate(volume, target)
            for other in (truth, labels):
                if other is not None:
                    finer_grid(outputs[method], other)
            metrics = super_resolution_metrics(
                axial(outputs[method]),
                axial(volume),
                truth=None if truth is None else thick_slices(axial(truth), _slices(volume)),
                labels=None if labels is None or truth is None else axial(labels),
                spacing_mm=_pixel_mm(outputs[method]),
                label_names=self.label_names,
                data_range=float(self.data_range or 0.0),
            )
            rows.append({**names, "method": method, **metrics})
        if NETWORK in outputs:
            self.coverage.add(names, volume, outputs[NETWORK], None if truth is None else axial(truth))
        path = case[source] if self.reduce is None else self._saved(volume, REDUCED, "int16")
        self._list(names, path, target, outputs, truth, labels)
        self.rows += rows
        return rows

    def _list(
        self,
        names: dict[str, str],
        source: str,
        target: str,
        outputs: Mapping[str, MetaTensor],
        truth: MetaTensor | None,
        labels: MetaTensor | None,
    ) -> None:
        """Save the images of a case for the report, all on the grid of the network's output."""
        if NETWORK not in outputs:
            return
        output = outputs[NETWORK]
        files = {"source": source, "prediction": self._saved(output, target, "int16")}
        if SHOWN in outputs:
            files[SHOWN] = self._saved(outputs[SHOWN], f"{target}_{SHOWN}", "int16")
        if truth is not None:
            averaged = thick_slices(axial(truth), _slices(output))
            files["target"] = self._saved(_like(output, averaged), f"{target}_truth", "int16")
        if labels is not None:
            files["label"] = self._saved(
                _like(output, most_frequent(axial(labels), _slices(output))), f"{target}_label", "uint8"
            )
        self.cases.append(names | {key: os.path.relpath(path, self.output_dir) for key, path in files.items()})

    def _saved(self, volume: MetaTensor, name: str, dtype: str) -> str:
        copy = MetaTensor(volume.as_subclass(torch.Tensor).round(), affine=volume.affine, meta=_other_meta(volume))
        return str(self.save_as(name, dtype=dtype)({"pred": copy})["pred"].meta["saved_to"])


def finer_grid(output: MetaTensor, other: MetaTensor) -> None:
    """Refuse a truth or label map that is not on an output's grid, except for slices thinner by a whole number.

    Args:
        output: Output (1, X, Y, Z) with an affine.
        other: Truth or label map (1, X, Y, n Z) with an affine.

    Raises:
        ValueError: If the grids do not fit. The message names both files.
    """
    first, second = (nib.as_closest_canonical(_nifti(volume)) for volume in (output, other))
    thickness, rest = divmod(second.shape[2], first.shape[2])
    expected = first.affine.copy()
    if thickness:
        expected[:3, 2] /= thickness
        expected[:3, 3] -= (thickness - 1) / 2 * expected[:3, 2]
    if rest or first.shape[:2] != second.shape[:2] or not np.allclose(expected, second.affine, atol=1e-2):
        raise ValueError(
            f"{file_name(other)}, shape {second.shape}, pixels {_pixel_mm(other)} mm, is not on the grid of "
            f"{file_name(output)} super-resolved, shape {first.shape}, pixels {_pixel_mm(output)} mm: a truth has "
            "the output's pixels, and slices that are as thick or thinner by a whole number; weights of another factor "
            "make other pixels."
        )


def most_frequent(labels: np.ndarray, slices: int) -> np.ndarray:
    """Return the most frequent label of the thin slices in each thick slice; of equally frequent ones the lowest.

    Args:
        labels: Label map (X, Y, n Z) of thin slices.
        slices: Number Z of thick slices.

    Returns:
        Label map (X, Y, Z) in uint8.

    Example:
        >>> most_frequent(np.array([[[1, 2, 2, 4, 4, 0]]]), 2).tolist()
        [[[2, 4]]]
    """
    thin = np.rint(labels).astype(np.uint8).reshape(*labels.shape[:2], slices, -1)
    values = np.unique(thin)
    counts = np.stack([(thin == value).sum(axis=3) for value in values])
    return np.asarray(values[counts.argmax(axis=0)])


def _like(output: MetaTensor, array: np.ndarray) -> MetaTensor:
    """Return an axial array as a volume on the grid of an output, along the patient's axes."""
    affine = torch.as_tensor(nib.as_closest_canonical(_nifti(output)).affine)
    return MetaTensor(
        torch.as_tensor(np.ascontiguousarray(array))[None].float(), affine=affine, meta=_other_meta(output)
    )


def _other_meta(volume: MetaTensor) -> dict[str, Any]:
    """Return a copy of a volume's meta data without its affine, so that another affine does not change the volume."""
    return {name: value for name, value in volume.meta.items() if name != "affine"}


def _nifti(volume: MetaTensor) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.zeros(volume.shape[1:], np.uint8), np.asarray(volume.affine, dtype=float))


def _slices(volume: MetaTensor) -> int:
    return int(nib.as_closest_canonical(_nifti(volume)).shape[2])


def _pixel_mm(volume: MetaTensor) -> tuple[float, float]:
    x, y = nib.as_closest_canonical(_nifti(volume)).header.get_zooms()[:2]
    return round(float(x), 4), round(float(y), 4)
