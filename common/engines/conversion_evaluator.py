"""Scores kernel conversions, blends of kernels included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from ..metrics import summarise, write_json, write_rows
from ..transforms import target_name
from .blends import Remembering, Weights, blend_translators, blend_volumes
from .evaluator import TranslationEvaluator, same_grid
from .translator import SOURCE, Translator

KEPT_VOLUMES = 3  # of one patient: a source, and the targets that make a blend


class ConversionEvaluator(TranslationEvaluator):
    """
    A `TranslationEvaluator` for cases that need not have every domain, and for blends of domains.

    Blends are scored by themselves, in `blends.csv` and `blends.json`, against the same blend of the target images;
    `blend_of_outputs` is that blend of the network's outputs. All other files are those of the pure domains.

    Args:
        device: where the network is.
        cases: items with the path of a volume a domain; directions that a case has no volumes for are left out.
        load: see `TranslationEvaluator`.
        translators: by name; `network` takes a blend as its target.
        directions: pairs of domains, source and target.
        blends: pairs of a source and the weights of a blend, of `blend_directions`.
        others: the arguments of `TranslationEvaluator`.

    Raises:
        ValueError: when a case has volumes for none of the directions.
    """

    def __init__(
        self,
        device: str | torch.device,
        cases: Sequence[dict[str, Any]],
        load: Callable,
        translators: Mapping[str, Translator],
        *,
        directions: Sequence[Sequence[str]],
        blends: Sequence[tuple[str, Weights]] = (),
        **others: Any,
    ) -> None:
        given = {name: Remembering(translate) for name, translate in translators.items()} if blends else translators
        self.blends = list(blends)
        super().__init__(device, cases, KeptVolumes(load), given, directions=directions, **others)
        self.blended = blend_translators(given)
        self.blend_rows: list[dict[str, Any]] = []

    def _work(self, cases: Sequence[dict[str, Any]], directions: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        # Blends come right after the pure targets of their source, whose outputs they consist of.
        sources = list(dict.fromkeys(source for source, _ in [*directions, *self.blends]))
        wanted = sorted([*directions, *self.blends], key=lambda direction: sources.index(direction[0]))
        work = []
        for case in cases:
            mine = [d for d in wanted if all(name in case for name in [d[0], *_names(d[1])])]
            if not any(isinstance(target, str) for _, target in mine):
                raise ValueError(
                    f"The test entry of patient {case.get('patient')!r} must name the volumes of one direction at"
                    f" least, a source and its true target, of the domains {sources}; it has {sorted(case)}."
                )
            work += [{"case": case, "direction": list(direction)} for direction in mine]
        return work

    def _reset(self) -> None:
        super()._reset()
        self.blend_rows = []

    def _evaluate_case(self, engine: Engine, item: dict[str, Any]) -> list[dict[str, Any]]:
        case, (source, target) = item["case"], item["direction"]
        if isinstance(target, str):
            return super()._evaluate_case(engine, item)
        volume = self._on_grid(case, source, source)
        truth = blend_volumes(lambda domain: self._on_grid(case, domain, source), target)
        labels = self.load_label({"image": case["label"]})["image"] if case.get("label") else None
        volume.meta[SOURCE] = source
        blend = target_name(target)
        names = {"patient": str(case.get("patient", Path(case[source]).name)), "direction": f"{source}->{blend}"}
        rows = []
        for method, translate in self.blended.items():
            metrics = self._score(translate(volume, target), truth, labels, volume, blend)
            rows.append({**names, "method": method, **metrics})
        self.blend_rows += rows
        return rows

    def _on_grid(self, case: Mapping[str, Any], domain: str, source: str) -> MetaTensor:
        volume = self.load({"image": case[domain]})["image"]
        if domain != source:
            same_grid(self.load({"image": case[source]})["image"], volume)
        return volume

    def _write(self) -> None:
        super()._write()
        if self.blend_rows:
            write_rows(self.output_dir / "blends.csv", self.blend_rows)
            write_json(self.output_dir / "blends.json", summarise(self.blend_rows))


class KeptVolumes:
    """
    A loader that keeps the last volumes: each of a patient takes part in several directions.

    Args:
        load: from `{"image": path}` to `{"image": volume}`.
        number: of volumes that are kept.
    """

    def __init__(self, load: Callable, number: int = KEPT_VOLUMES) -> None:
        self.load, self.number = load, number
        self.volumes: dict[str, MetaTensor] = {}

    def __call__(self, item: Mapping[str, Any]) -> dict[str, MetaTensor]:
        path = str(item["image"])
        volume = self.volumes.pop(path, None)
        if volume is None:
            volume = self.load(item)["image"]
            for oldest in list(self.volumes)[: max(0, len(self.volumes) + 1 - self.number)]:
                del self.volumes[oldest]
        self.volumes[path] = volume  # last in order: the longest unused one goes first
        return {"image": volume}


def _names(target: str | Weights) -> list[str]:
    return [target] if isinstance(target, str) else list(target)
