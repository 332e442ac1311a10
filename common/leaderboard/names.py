"""What tables call methods and metrics, and what a method's name asks for."""

from __future__ import annotations

# Titles of methods and baselines; of others, the name without underscores.
TITLES = {
    "nec": "NEC",
    "ggcl": "GGCL",
    "kcgan": "KCGAN",
    "stargan": "StarGAN",
    "ggdr": "StarGAN + GGDR",
    "attgan": "AttGAN",
    "attgan_guided": "AttGAN, guided",
    "cyclegan": "CycleGAN",
    "cut": "CUT",
    "fastcut": "FastCUT",
    "dclgan": "DCLGAN",
    "unit": "UNIT",
    "pix2pix": "Pix2Pix (supervised)",
    "supervised": "supervised on aligned truth",
    "ours_s": "Ours-S",
    "ours_j": "Ours-J",
    "single": "Single",
    "cycle": "Cycle",
    "misaligned": "trained on misaligned pairs",
    "sr_cyclegan": "SR-CycleGAN",
    "sr_unit": "SR-UNIT",
    "histogram_matching": "histogram matching",
    "inverted_histogram_matching": "inverted histogram matching",
    "intensity_curve": "intensity curve (fitted on pairs)",
    "radial_filter": "radial filter (fitted on pairs)",
    "radial_filter_unpaired": "radial filter (fitted without pairs)",
    "nearest": "nearest neighbour",
}
LOWER_IS_BETTER = ("rmse", "mae", "mse", "consistency_mse", "spectrum_distance", "false_enhancement", "edge_ratio")


def title(name: str, own: str = "") -> str:
    """
    What a table calls a method or a baseline.

    Args:
        name: as `Board.files` takes it.
        own: the bundle's own method, which is meant where only changes are named.

    Example:
        >>> title("physics+ggdr"), title("physics", "ggcl"), title("identity")
        ('StarGAN + GGDR with physics', 'GGCL with physics', 'identity')
        >>> title("ablations/patches_128", "ggcl"), title("physics+ablations/physics_untrained", "ggcl")
        ('GGCL: patches 128', 'GGCL with physics: physics untrained')
    """
    parts = name.split("+")
    ablations = [part.removeprefix("ablations/").replace("_", " ") for part in parts if part.startswith("ablations/")]
    bases = [part for part in parts if part != "physics" and not part.startswith("ablations/")] or [own]
    found = " + ".join(TITLES.get(base, base.replace("_", " ")) for base in bases)
    found += " with physics" if "physics" in parts else ""
    return f"{found}: {', '.join(ablations)}" if ablations else found


def pair_of(method: str) -> dict[str, str]:
    """
    The pair of domains that a method's name asks for, as settings of its config.

    Raises:
        ValueError: when it is not a source and a target.

    Example:
        >>> pair_of("cyclegan:B30f:B70f"), pair_of("ggcl")
        ({'source': 'B30f', 'target': 'B70f'}, {})
    """
    _, *pair = method.split(":")
    if pair and len(pair) != 2:
        raise ValueError(f"`methods` must name a pair as NAME:SOURCE:TARGET, got {method!r}.")
    return dict(zip(("source", "target"), pair))


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better.

    Example:
        >>> [lower_is_better(name) for name in ("psnr", "mse_window", "consistency_mse")]
        [False, True, True]
    """
    return metric.startswith(LOWER_IS_BETTER)
