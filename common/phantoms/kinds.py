"""All kinds of phantoms by name."""

from __future__ import annotations

from pathlib import Path

from .abdomen.clinical import CLINICAL_ABDOMEN
from .abdomen.phantom import ABDOMEN, VARIED_ABDOMEN
from .brain.phantom import BRAIN, BRAIN_PD, VARIED_BRAIN
from .chest.iterative import CHEST_ITERATIVE
from .chest.phantom import CHEST
from .chest.scanner import CHEST_SCANNER
from .dataset import PhantomKind
from .lung.phantom import LUNG, LUNG_WALLS

ALL = (
    BRAIN,
    BRAIN_PD,
    VARIED_BRAIN,
    CHEST,
    CHEST_ITERATIVE,
    CHEST_SCANNER,
    ABDOMEN,
    VARIED_ABDOMEN,
    CLINICAL_ABDOMEN,
    LUNG,
    LUNG_WALLS,
)
FACTOR_KINDS = (LUNG.name, LUNG_WALLS.name)
KINDS: dict[str, PhantomKind] = {kind.name: kind for kind in ALL}


def generate_phantom(
    kind: str,
    output_dir: str | Path,
    *,
    patients: int | None = None,
    slices: int | None = None,
    size: int | None = None,
    seed: int = 0,
    slice_mm: float | None = None,
    factor: int | None = None,
    workers: int | None = None,
) -> Path:
    """Write a phantom data set, or return the one that is already complete.

    Args:
        kind: One of `KINDS`.
        output_dir: Folder of the data set; created if it does not exist.
        patients: Number of patients; by default that of the kind.
        slices: Number of slices per patient; by default that of the kind.
        size: Rows and columns of a slice in pixels; by default that of the kind.
        seed: Random seed; it determines each patient, whatever the number of patients.
        slice_mm: Distance between slices in mm; by default that of the kind. 1 with many slices gives contiguous
            volumes.
        factor: Only for the lungs: voxel size of the clinical CT over that of the micro CT, 2, 4 or 8; default 8.
        workers: Number of processes, each with one thread; by default one per processor.

    Returns:
        Path of the datalist (JSON), whose paths are relative to it.

    Raises:
        ValueError: An argument is out of range, or the folder holds a data set with other parameters.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
    if kind not in FACTOR_KINDS and factor is not None:
        raise ValueError(
            f"`factor` is for the kinds 'lung' and 'lung_walls' alone, got {factor!r} for {kind!r}: leave it out."
        )
    arguments = {"patients": patients, "slices": slices, "size": size, "seed": seed, "slice_mm": slice_mm}
    if kind in FACTOR_KINDS:
        arguments["factor"] = factor
    return KINDS[kind].generate(output_dir, workers=workers, **arguments)
