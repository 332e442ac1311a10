"""Evaluation of kernel conversions, including blends of kernels.

A blend is scored against the same blend of the target images, and compared with the blend of the network's outputs.
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
CACHED_VOLUMES = 3  # volumes of one patient: a source, and the targets of a blend


class ConversionEvaluator(TranslationEvaluator):
    """A `TranslationEvaluator` for cases that need not have every domain, and for blends of domains.

    Blends are scored separately, in `blends.csv` and `blends.json`, against the same blend of the target images;
    the method `blend_of_outputs` is the blend of the network's outputs. All other files hold the single domains.

    Args:
        device: Device of the network.
        cases: Items with the path of one volume per domain; directions for which a case has no volumes are left out.
        load: Function that loads a volume, see `TranslationEvaluator`.
        translators: Translators by name; `network` takes a blend as its target, too.
        directions: Pairs of a source and a target domain.
        blends: Pairs of a source and the weights of a blend, see `blend_directions`.
        others: Further arguments of `TranslationEvaluator`.

    Raises:
        ValueError: If a case has volumes for none of the directions.
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
        # Blends come right after the single targets of their source, of whose outputs they consist.
        sources = list(dict.fromkeys(source for source, _ in [*directions, *self.blends]))
        wanted = sorted([*directions, *self.blends], key=lambda direction: sources.index(direction[0]))
        work = []
        for case in cases:
            mine = [d for d in wanted if all(name in case for name in [d[0], *_names(d[1])])]
            if not any(isinstance(target, str) for _, target in mine):
                raise ValueError(
                    f"The test entry of patient {case.get('patient')!r} must name the volumes of at least one"
                    f" direction, a source and its true target, of the domains {sources}; it has {sorted(case)}."
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
    """A loader that caches the last volumes, as each volume of a patient takes part in several directions.

    Args:
        load: Function from `{"image": path}` to `{"image": volume}`.
        number: Number of volumes in the cache.
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
        self.volumes[path] = volume  # at the end of the order: the volume that was unused longest goes first
        return {"image": volume}


class CachedTranslator:
    """A translator that caches its outputs for one volume, so that a blend of them costs no second translation.

    Args:
        translate: Translator whose outputs for single domains are cached until another volume comes.
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
    """A translator to a blend of kernels: the blend of another translator's outputs, in whole HU as it would be saved.

    Args:
        translate: Translator that is called once for each kernel of the blend.
    """

    def __init__(self, translate: Callable[..., MetaTensor]) -> None:
        self.translate = translate

    def __call__(self, volume: MetaTensor, target: Any) -> MetaTensor:
        blend = blend_volumes(lambda domain: self.translate(volume, domain), target)
        return MetaTensor(blend.as_tensor().round(), meta=blend.meta)


def blend_translators(translators: Mapping[str, Translator]) -> dict[str, Callable[..., MetaTensor]]:
    """Return the translators to blends: the network, the blend of its outputs, and the blends of all others' outputs.

    Args:
        translators: Translators to single kernels by name; `network` takes a blend as its target, too.
    """
    blended: dict[str, Callable[..., MetaTensor]] = {}
    for name, translate in translators.items():
        if name == NETWORK:
            blended |= {NETWORK: translate, BLEND_OF_OUTPUTS: BlendedOutputs(translate)}
        else:
            blended[name] = BlendedOutputs(translate)
    return blended


def blend_volumes(volume_of: Callable[[str], MetaTensor], weights: Weights) -> MetaTensor:
    """Return the weighted sum of volumes (C, X, Y, Z) on one grid: reconstruction is linear in the kernel.

    Args:
        volume_of: Function from a domain to its volume.
        weights: Weight of each domain.
    """
    parts = {domain: volume_of(domain) for domain in weights}
    first = next(iter(parts.values()))
    total = sum(weights[domain] * part.as_tensor() for domain, part in parts.items())
    return MetaTensor(total, meta=dict(first.meta))


def blend_directions(
    domains: Sequence[str], blends: Sequence[Weights], groups: Sequence[int] | None = None
) -> list[tuple[str, dict[str, float]]]:
    """Return the pairs of a source kernel and a blend in which blends are scored.

    The sources of a blend are its vendor's kernels that are no part of it, or all of them if there are none.

    Args:
        domains: Names of the kernels.
        blends: Weights of the kernels of each blend; they sum to 1.
        groups: Number of kernels of each vendor; default: one vendor.

    Returns:
        Pairs of a source kernel and the positive weights of a blend.

    Raises:
        ValueError: If a blend is not valid, see `common.networks.target_weights`.

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


def half_blends(domains: Sequence[str], groups: Sequence[int] | None = None) -> list[dict[str, float]]:
    """Return one blend per vendor, half its first and half its last kernel, if it has a third one to convert from.

    Args:
        domains: Names of the kernels.
        groups: Number of kernels of each vendor; default: one vendor.

    Example:
        >>> half_blends(["B30f", "B50f", "B70f"])
        [{'B30f': 0.5, 'B70f': 0.5}]
    """
    return [{vendor[0]: 0.5, vendor[-1]: 0.5} for vendor in vendors_of(domains, groups) if len(vendor) > 2]


def _names(target: str | Weights) -> list[str]:
    return [target] if isinstance(target, str) else list(target)
