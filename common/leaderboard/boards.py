"""The subject of a bundle's leaderboard as its metadata declare it: methods, overlays, columns, and titles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundles import declaration, find_bundle, find_bundles, training_stages

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DECLARED = "declared"  # stands for the overlay that a board names
SECTION = "leaderboard"  # of the metadata
# Titles of methods and baselines that several bundles may have; others are called by their name without underscores.
TITLES = {
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
    "single": "Single",
    "cycle": "Cycle",
    "misaligned": "trained on misaligned pairs",
    "registered": "trained on registered pairs",
    "histogram_matching": "histogram matching",
    "inverted_histogram_matching": "inverted histogram matching",
    "intensity_curve": "intensity curve (fitted on pairs)",
    "radial_filter": "radial filter (fitted on pairs)",
    "radial_filter_unpaired": "radial filter (fitted without pairs)",
    "band_energy": "energy of frequency bands (fitted without pairs)",
    "nearest": "nearest neighbour",
}
LOWER_IS_BETTER = (
    "rmse",
    "mae",
    "mse",
    "misaligned_mse",
    "consistency_mse",
    "spectrum_distance",
    "false_enhancement",
    "edge_ratio",
    "emphysema_error",
    "perc15_error",
)


@dataclass(frozen=True)
class Board:
    """The leaderboard of a bundle: its folder, and what its metadata declare under `leaderboard`.

    Args:
        root: Folder of the bundle.
        own: Name of the method that `train.yaml` trains.
        columns: Metrics of the table; methods are ranked and tested by the first one.
        budget: Number of images with which each generator is updated under `overlay`.
        overlay: Last overlay of each method, with small networks and the data, for 2 CPU cores.
        titles: Titles in tables of the methods that only this bundle has, by name.
        second_title: Description of a second test set, which `run_leaderboard` may be given.
        overlays: Overlays of `train.yaml` outside `configs/baselines`, by the name of the method.
        over: Name of the method over whose overlay a method's own is laid, by the name of the latter.
        last: Methods whose overlay is laid over `overlay` too, as it has networks and settings of its own.
        supervised: Methods trained on aligned pairs, the upper end of the scale where they are above its lower end.
        untrained: Methods that are started but not trained.
        combined: Further methods of the table, several overlays joined by +.
        on_request: Overlays in `configs/baselines` that are trained only if they are named, as they need an extra.
        fitted_on_pairs: Classical baselines fitted on pairs.
        shared_with: Another bundle beside this one, whose baselines, ablations and overlays are also used here.
        shared: Methods whose trainings are the same in both bundles and are done once.
        translators: Id of `evaluate.yaml` with everything that is scored; None if nothing of it can be left out.
        evaluation: Values of ids of `evaluate.yaml` that leave out what the table does not show.
    """

    root: Path
    own: str
    columns: tuple[str, ...]
    budget: int
    overlay: str = "demo"
    titles: Mapping[str, str] = field(default_factory=dict)
    second_title: str = "second test set"
    overlays: Mapping[str, str] = field(default_factory=dict)
    over: Mapping[str, str] = field(default_factory=dict)
    last: tuple[str, ...] = ()
    supervised: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    combined: tuple[str, ...] = ()
    on_request: tuple[str, ...] = ()
    fitted_on_pairs: tuple[str, ...] = ()
    shared_with: str | None = None
    shared: tuple[str, ...] = ()
    translators: str | None = "translators"
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def network_alone(self) -> dict[str, str]:
        """Return ids of `evaluate.yaml` and values that leave the baselines out."""
        return {} if self.translators is None else {self.translators: "$@networks"}

    @property
    def bundle(self) -> str:
        """Name of the bundle's folder."""
        return self.root.name

    @property
    def configs(self) -> Path:
        """Folder of the bundle's configs."""
        return self.root / "configs"

    @property
    def stages(self) -> list[Path]:
        """Overlays that are trained first, once per seed, and whose weights every method copies."""
        return training_stages(self.root)

    @property
    def folders(self) -> list[Path]:
        """Folders in which overlays are looked for: the bundle's configs, then those of `shared_with`."""
        others = [] if self.shared_with is None else [self.root.with_name(self.shared_with) / "configs"]
        return [self.configs, *others]

    def methods(self) -> list[str]:
        """Return the names of all methods of the bundle except its ablations and those on request: its own first."""
        baselines = [name for name in self._names("baselines") if name not in self.on_request]
        return [self.own, *self.overlays, *self.combined, *baselines]

    def files(self, method: str, overlay: str | None) -> list[Path]:
        """Return the configs that train a method, in order.

        Args:
            method: Name among `methods()` or `on_request`, an ablation `ablations/NAME`, or several joined by +.
                For a method between two domains, another pair than its overlay's may follow, as in
                `cyclegan:B30f:B70f`.
            overlay: Overlay after the methods' own, as a name in the bundle's configs or a path; None for no overlay.

        Returns:
            Paths of the configs.

        Raises:
            ValueError: If there is no such method or overlay.

        Example:
            >>> [path.name for path in find_board("ggcl").files("physics+ggdr", "demo")]
            ['train.yaml', 'physics.yaml', 'ggdr.yaml', 'demo.yaml']
            >>> [path.name for path in find_board("ggcl").files("fastcut", None)]
            ['train.yaml', 'cut.yaml', 'fastcut.yaml']
            >>> [path.name for path in find_board("nec_t1t2").files("cyclegan_own", "demo")]
            ['train.yaml', 'cyclegan.yaml', 'demo.yaml', 'cyclegan_own.yaml']
        """
        parts = [part for part in method.partition(":")[0].split("+") if part != self.own]
        layers = [layer for part in parts for layer in ([self.over[part], part] if part in self.over else [part])]
        files = [self.configs / "train.yaml", *(self._file(layer) for layer in layers if layer not in self.last)]
        if overlay is not None:
            found = self._find(overlay)
            if found is None and not Path(overlay).is_file():
                raise ValueError(f"`overlay` must be a file, or a name in {self.configs}, got {overlay!r}.")
            files.append(found or Path(overlay).absolute())
        return [*files, *(self._file(layer) for layer in layers if layer in self.last)]

    def title(self, name: str) -> str:
        """Return the title of a method or a baseline in tables.

        Args:
            name: Name of the method, see `files`; a name of changes alone stands for the bundle's own method.

        Example:
            >>> board = find_board("ggcl")
            >>> board.title("physics+ggdr"), board.title("physics"), board.title("identity")
            ('StarGAN + GGDR with physics', 'GGCL with physics', 'identity')
            >>> board.title("ablations/patches_128"), board.title("physics+ablations/physics_untrained")
            ('GGCL: patches 128', 'GGCL with physics: physics untrained')
        """
        titles = {**TITLES, **self.titles}
        parts = name.split("+")
        ablations = [
            part.removeprefix("ablations/").replace("_", " ") for part in parts if part.startswith("ablations/")
        ]
        bases = [part for part in parts if part != "physics" and not part.startswith("ablations/")] or [self.own]
        found = " + ".join(titles.get(base, base.replace("_", " ")) for base in bases)
        found += " with physics" if "physics" in parts else ""
        return f"{found}: {', '.join(ablations)}" if ablations else found

    def _file(self, part: str) -> Path:
        single = [name for name in (*self.methods(), *self.on_request) if "+" not in name]
        known = [*single, *(f"ablations/{name}" for name in self._names("ablations"))]
        name = self.overlays.get(part, part if part.startswith("ablations/") else f"baselines/{part}")
        found = self._find(name) if part in known else None
        if found is None:
            raise ValueError(
                f"`methods` of {self.bundle} must be among {', '.join(known)}, or some of them joined by +,"
                f" got {part!r}."
            )
        return found

    def _names(self, kind: str) -> list[str]:
        """Return the names of the overlays in the folder `kind` of each of `folders`, sorted."""
        return sorted({path.stem for folder in self.folders for path in (folder / kind).glob("*.yaml")})

    def _find(self, name: str) -> Path | None:
        """Return the first file of a name in `folders`, or None."""
        found = [folder / f"{name}.yaml" for folder in self.folders if (folder / f"{name}.yaml").is_file()]
        return found[0] if found else None


def find_boards() -> dict[str, Board]:
    """Return the boards of the source tree's bundles by the bundle's name, in the order of `find_bundles`."""
    boards = [declaration(root, SECTION, Board, root=root) for root in find_bundles()]
    return {board.bundle: board for board in boards if board is not None}


def find_board(bundle: str | Path) -> Board:
    """Return the board of a bundle.

    Args:
        bundle: Name or folder of the bundle, see `find_bundle`.

    Raises:
        ValueError: If there is no such bundle, or it declares no leaderboard.
    """
    root = find_bundle(bundle, among=[board.root for board in find_boards().values()])
    board = declaration(root, SECTION, Board, root=root)
    if board is None:
        raise ValueError(f"`bundle` must be one with {SECTION!r} in its configs/metadata.json, got {str(bundle)!r}.")
    return board


def pair_of(method: str) -> dict[str, str]:
    """Return the pair of domains that a method's name asks for, as settings of its config.

    Args:
        method: Name of the method, see `Board.files`.

    Raises:
        ValueError: If the name has a pair that is not a source and a target.

    Example:
        >>> pair_of("cyclegan:B30f:B70f"), pair_of("stargan")
        ({'source': 'B30f', 'target': 'B70f'}, {})
    """
    _, *pair = method.split(":")
    if pair and len(pair) != 2:
        raise ValueError(f"`methods` must name a pair as NAME:SOURCE:TARGET, got {method!r}.")
    return dict(zip(("source", "target"), pair))


def lower_is_better(metric: str) -> bool:
    """Return whether lower values of a metric are better.

    Example:
        >>> [lower_is_better(name) for name in ("psnr", "mse_window", "consistency_mse")]
        [False, True, True]
    """
    return metric.startswith(LOWER_IS_BETTER)
