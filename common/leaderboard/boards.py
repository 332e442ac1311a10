"""
What each bundle's leaderboard compares: its methods, their overlays, and the columns of its table.

What tables call methods and metrics, and what a method's name asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
COMPACT = "compact"  # the overlay that a board names


@dataclass(frozen=True)
class Board:
    """
    The leaderboard of a bundle.

    Attributes:
        bundle: a folder of bundles/.
        own: name of the method that `train.yaml` is.
        columns: metrics of the table; the first one ranks and is tested.
        budget: images with which each generator is updated in `compact`.
        compact: overlay of small networks, for 2 CPU cores.
        second_title: of a second test set, which `run_leaderboard` may be given.
        overlays: methods whose overlay of `train.yaml` does not lie in `configs/baselines`.
        stages: overlays that are trained before, once a seed, and whose weights the methods copy.
        supervised: methods that see aligned pairs: the upper end of the scale.
        fitted_on_pairs: classical baselines that saw pairs.
        shared_with: a bundle whose trainings of the methods in `shared` are the same; they are done once for both.
        shared: see there.
        translators: id of `evaluate.yaml` with all that is scored; None: nothing of it can be left out.
        evaluation: overrides of `evaluate.yaml`, which leave out what the table does not show.
    """

    bundle: str
    own: str
    columns: tuple[str, ...]
    budget: int
    compact: str = "demo"
    second_title: str = "second test set"
    overlays: dict[str, str] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    supervised: tuple[str, ...] = ()
    fitted_on_pairs: tuple[str, ...] = ()
    shared_with: str | None = None
    shared: tuple[str, ...] = ()
    translators: str | None = "translators"
    evaluation: dict[str, str] = field(default_factory=dict)

    def network_alone(self) -> dict[str, str]:
        """Overrides of `evaluate.yaml` that leave the baselines out."""
        return {} if self.translators is None else {self.translators: "$dict(network=@network_translator)"}

    @property
    def configs(self) -> Path:
        """The folder of the bundle's configs."""
        return ROOT / "bundles" / self.bundle / "configs"

    def methods(self) -> list[str]:
        """Every method of the bundle but its ablations: its own first."""
        found = sorted(path.stem for path in (self.configs / "baselines").glob("*.yaml"))
        return [self.own, *self.overlays, *found]

    def files(self, method: str, overlay: str | None) -> list[Path]:
        """
        The configs that train a method, in order.

        Args:
            method: one of `methods()`, an ablation `ablations/NAME`, or several of them joined by +; behind it, of a
                method between two domains, another pair than its overlay's, as in `cyclegan:B30f:B70f`.
            overlay: behind all of them; a name in the bundle's configs, a path, or None.

        Raises:
            ValueError: when there is no such method or overlay.

        Example:
            >>> [path.name for path in BOARDS["ggcl"].files("physics+ggdr", "demo")]
            ['train.yaml', 'physics.yaml', 'ggdr.yaml', 'demo.yaml']
        """
        parts = method.partition(":")[0].split("+")
        files = [self.configs / "train.yaml", *(self._file(part) for part in parts if part != self.own)]
        if overlay is not None:
            named = self.configs / f"{overlay}.yaml"
            files.append(named if named.is_file() else Path(overlay).absolute())
            if not files[-1].is_file():
                raise ValueError(f"`overlay` must be a file, or a name in {self.configs}, got {overlay!r}.")
        return files

    def _file(self, part: str) -> Path:
        ablations = [f"ablations/{path.stem}" for path in sorted((self.configs / "ablations").glob("*.yaml"))]
        if part not in [*self.methods(), *ablations]:
            raise ValueError(
                f"`methods` of {self.bundle} must be among {', '.join([*self.methods(), *ablations])}, or some of them"
                f" joined by +, got {part!r}."
            )
        name = self.overlays.get(part, part if part.startswith("ablations/") else f"baselines/{part}")
        return self.configs / f"{name}.yaml"


KERNEL_COLUMNS = ("psnr", "ssim", "rmse")
KERNEL_PAIRS = ("supervised",)
UNGUIDED = ("stargan", "ggdr", "attgan", "cyclegan", "cut", "fastcut", "dclgan", "unit", "supervised")
KERNEL_PAIR = (
    "A true kernel pair of a scanner, out of distribution: weights trained on the phantom, applied to slices 33 to 40"
    " of one scan of a head phantom as if its kernels UB and YA were B30f and B70f"
)
KERNEL_EVALUATION = {"blends": "$[]", "evaluator#more_metrics": "$None"}
BOARDS = {
    board.bundle: board
    for board in (
        Board(
            "nec_t1t2",
            "nec",
            ("psnr", "ssim", "psnr_matched", "ssim_matched", "mae_tumour", "mae_oedema", "mae_deep_nuclei"),
            budget=3584,
            supervised=("pix2pix",),
            fitted_on_pairs=("intensity_curve",),
        ),
        Board(
            "ggcl",
            "ggcl",
            KERNEL_COLUMNS,
            budget=1200,
            compact="leaderboard",
            second_title=KERNEL_PAIR,
            overlays={"physics": "physics"},
            supervised=KERNEL_PAIRS,
            fitted_on_pairs=("radial_filter",),
            evaluation=KERNEL_EVALUATION,
        ),
        Board(
            "kcgan_kernel_conversion",
            "kcgan",
            KERNEL_COLUMNS,
            budget=1200,
            compact="leaderboard",
            second_title=KERNEL_PAIR,
            overlays={"physics": "physics"},
            supervised=KERNEL_PAIRS,
            fitted_on_pairs=("radial_filter",),
            shared_with="ggcl",
            shared=UNGUIDED,
            evaluation=KERNEL_EVALUATION,
        ),
        Board(
            "nect2cect",
            "ours_s",
            (
                *("psnr_window", "mse_window", "ms_ssim_window", "false_enhancement_hu"),
                *("misaligned_mse_window", "misaligned_ms_ssim_window"),
            ),
            budget=840,
            overlays={"ours_j": "train_joint"},
            stages=("train_classifier", "train_contrast_removal"),
            translators="enhancers",
            supervised=("supervised",),
            fitted_on_pairs=("intensity_curve",),
        ),
        Board(
            "sr_cyclegan",
            "sr_cyclegan",
            ("psnr", "ssim", "consistency_mse", "spectrum_distance", "contrast_vessel", "edge_ratio_vessel"),
            budget=2400,
            overlays={"sr_unit": "sr_unit"},
            translators=None,
            supervised=("supervised",),
        ),
    )
}


def find_board(bundle: str) -> Board:
    """
    The board of a bundle.

    Raises:
        ValueError: when there is none.
    """
    if bundle not in BOARDS:
        raise ValueError(f"`bundle` must be one of {sorted(BOARDS)}, got {bundle!r}.")
    return BOARDS[bundle]


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
