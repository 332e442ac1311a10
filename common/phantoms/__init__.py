"""Digital phantoms: the embedded default data, generated from a seed with exact ground truth."""

from __future__ import annotations

from pathlib import Path

from .abdomen.phantom import ABDOMEN
from .brain.phantom import BRAIN, BRAIN_PD
from .chest.phantom import CHEST
from .dataset import PhantomKind, check_integer, write_dataset
from .lung.phantom import LUNG

KINDS: dict[str, PhantomKind] = {kind.name: kind for kind in (BRAIN, BRAIN_PD, CHEST, ABDOMEN, LUNG)}

__all__ = ["KINDS", "generate_phantom"]


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
    """Write a phantom data set, or find it done.

    Args:
        kind: one of ``KINDS``.
        output_dir: folder of the data set; made if need be.
        patients: number of patients; default the kind's.
        slices: slices a patient; default the kind's.
        size: pixels along each side of a slice; default the kind's.
        seed: the same seed gives the same patients, whatever their number.
        slice_mm: distance of the slices in mm; default the kind's. 1 with many slices gives contiguous volumes.
        factor: of the lung alone: voxel size of the clinical CT over that of the micro CT, 2, 4 or 8; default 8.
        workers: processes, one thread each; default one for each processor.

    Returns:
        path of the datalist (JSON), whose paths are relative to it.

    Raises:
        ValueError: an argument is out of its range, or the folder holds a data set of other parameters.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
    if workers is not None:
        check_integer("workers", workers, minimum=1)
    chosen = KINDS[kind]
    arguments = {"patients": patients, "slices": slices, "size": size, "seed": seed, "slice_mm": slice_mm}
    if kind == LUNG.name:
        arguments["factor"] = factor
    elif factor is not None:
        raise ValueError(f"`factor` is for the kind 'lung' alone, got {factor!r} for {kind!r}: leave it out.")
    parameters = chosen.check_parameters(**arguments)
    return write_dataset(chosen, parameters, Path(output_dir), workers=workers)
