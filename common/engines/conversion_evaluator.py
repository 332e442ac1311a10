"""
Scores kernel conversions, blends of kernels included.

Blends of kernels: what they are scored against, and what a blend of several outputs is worth beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from ..files import write_json
from ..images.names import SOURCE, target_name
from ..metrics.summary import NETWORK, summarise, write_rows
from ..networks.with_target import target_weights, vendors_of
from .evaluator import TranslationEvaluator, same_grid
from .translator import Translator

BLEND_OF_OUTPUTS = "blend_of_outputs"
Weights = Mapping[str, float]


def half_blends(domains: Sequence[str], groups: Sequence[int] | None = None) -> list[dict[str, float]]:
    """
    Half of each vendor's first and half of its last kernel, where there is a third one to convert from.

    Args:
        domains: names of the kernels.
        groups: number of kernels of each vendor; default: one vendor.

    Example:
        >>> half_blends(["B30f", "B50f", "B70f"])
        [{'B30f': 0.5, 'B70f': 0.5}]
    """
    return [{vendor[0]: 0.5, vendor[-1]: 0.5} for vendor in vendors_of(domains, groups) if len(vendor) > 2]


def blend_directions(
    domains: Sequence[str], blends: Sequence[Weights], groups: Sequence[int] | None = None
) -> list[tuple[str, dict[str, float]]]:
    """
    From which kernels each blend is made: those of its vendor that are no part of it, or all, where there is none.

    Args:
        domains: names of the kernels.
        blends: the weight of each kernel that takes part; they sum to 1.
        groups: number of kernels of each vendor; default: one vendor.

    Raises:
        ValueError: as `common.networks.target_weights`.

    Example:
        >>> blend_directions(["B30f", "B50f", "B70f"], [{"B30f": 0.5, "B70f": 0.5}])
        [('B50f', {'B30f': 0.5, 'B70f': 0.5})]
    """
    directions = []
    for blend in blends:
        target_weights(domains, blend, groups)
        parts = {domain: weight for domain, weight in blend.items() if weight > 0}
        (vendor,) = [vendor for vendor in vendors_of(domains, groups) if set(parts) <= set(vendor)]
        sources = [domain for domain in vendor if domain not in parts] or vendor
        directions += [(source, parts) for source in sources]
    return directions


def blend_volumes(volume_of: Callable[[str], MetaTensor], weights: Weights) -> MetaTensor:
    """
    The weighted sum of volumes (C, X, Y, Z) on one grid: reconstruction is linear in the kernel.

    Args:
        volume_of: from a domain to its volume.
        weights: of each domain.
    """
    parts = {domain: volume_of(domain) for domain in weights}
    first = next(iter(parts.values()))
    total = sum(weights[domain] * part.as_tensor() for domain, part in parts.items())
    return MetaTensor(total, meta=dict(first.meta))


class CachedTranslator:
    """
    A translator that keeps its outputs for one volume: a blend of them then costs no second translation.

    Args:
        translate: whose outputs for single domains are kept until another volume comes.
    """

    def __init__(self, translate: Translator) -> None:
        self.translate: Callable[..., MetaTensor] = translate
        self.volume: MetaTensor | None = None
        self.outputs: dict[str, MetaTensor] = {}

    def __call__(self, volume: MetaTensor, target: str | Weights) -> MetaTensor:
        if not isinstance(target, str):
            return self.translate(volume, target)
        if volume is not self.volume:
            self.volume, self.outputs = volume, {}
        if target not in self.outputs:
            self.outputs[target] = self.translate(volume, target)
        return self.outputs[target]


class BlendedOutputs:
    """
    For a blend of kernels, the same blend of a translator's outputs for each of them, in whole HU as it would be saved.

    Args:
        translate: called once for each kernel that takes part.
    """

    def __init__(self, translate: Callable[..., MetaTensor]) -> None:
        self.translate = translate

    def __call__(self, volume: MetaTensor, target: Any) -> MetaTensor:
        blend = blend_volumes(lambda domain: self.translate(volume, domain), target)
        return MetaTensor(blend.as_tensor().round(), meta=blend.meta)


def blend_translators(translators: Mapping[str, Translator]) -> dict[str, Callable[..., MetaTensor]]:
    """The network bound to the blend, beside it the blend of its outputs, and the blends of all others' outputs."""
    blended: dict[str, Callable[..., MetaTensor]] = {}
    for name, translate in translators.items():
        if name == NETWORK:
            blended |= {NETWORK: translate, BLEND_OF_OUTPUTS: BlendedOutputs(translate)}
        else:
            blended[name] = BlendedOutputs(translate)
    return blended


CACHED_VOLUMES = 3  # of one patient: a source, and the targets that make a blend


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
        given = (
            {name: CachedTranslator(translate) for name, translate in translators.items()} if blends else translators
        )
        self.blends = list(blends)
        super().__init__(device, cases, CachedVolumes(load), given, directions=directions, **others)
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


class CachedVolumes:
    """
    A loader that keeps the last volumes: each of a patient takes part in several directions.

    Args:
        load: from `{"image": path}` to `{"image": volume}`.
        number: of volumes that are kept.
    """

    def __init__(self, load: Callable, number: int = CACHED_VOLUMES) -> None:
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
