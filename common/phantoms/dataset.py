"""Phantom data sets: what a kind of phantom declares, and how its patients are generated, written and listed.

Patients are generated in parallel, each file is either complete or absent, and the datalist is written last.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..files import write_bytes, write_text
from ..processes import worker_pool

GZIP_LEVEL = 4
GOLDEN_RATIO = (5**0.5 - 1) / 2  # fractional part; the step of the most evenly spread sequence

DATALIST_NAME = "datalist.json"
LABEL_KEY = "label"
TRAINING_SHARE = 0.58
VALIDATION_SHARE = 1 / 8
LICENCE = (
    "Synthetic data, made without any patient by software under Apache-2.0 and free under the same terms. "
    "For research only, not for clinical use."
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Parameters = Mapping[str, Any]


class Volume(NamedTuple):
    """Volume (X, Y, Z), or vector field (X, Y, Z, 3), with its affine (4, 4) from voxels to RAS+ millimetres."""

    data: NDArray[Any]
    affine: NDArray[np.float64]


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a NIfTI file with sform and qform in scanner coordinates and millimetres, atomically.

    Volumes become int16, rounded; uint16 is kept. Vectors become float32 with their components along the fourth axis,
    as nibabel and MONAI read them (the five axes of NIfTI's vector intent would reach MONAI as a fourth spatial one).
    """
    vectors = volume.data.ndim == 4
    data = volume.data.astype(np.float32) if vectors else _as_integers(volume.data, path)
    image = nibabel.Nifti1Image(data, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(volume.affine, code="scanner")
    # Its float32 quaternion is coarse for flipped axes (1e-3 of a voxel): let both forms say the same.
    image.set_sform(image.get_qform(), code="scanner")
    write_bytes(path, gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0))


def _as_integers(data: NDArray[Any], path: Path) -> NDArray[np.int16] | NDArray[np.uint16]:
    """Return `data` as int16, or unchanged if uint16; raise a ValueError naming the file if values do not fit."""
    if data.dtype == np.uint16:
        return data
    rounded = np.rint(data)
    limits = np.iinfo(np.int16)
    if rounded.min() < limits.min or rounded.max() > limits.max:
        raise ValueError(f"Values of {path.name} must fit int16, got {rounded.min():g} to {rounded.max():g}.")
    return rounded.astype(np.int16)


@dataclass(frozen=True)
class PhantomKind:
    """Declaration of a kind of phantom for the writer.

    Attributes:
        name: Name of the kind, also the first part of patient and file names.
        domains: Keys of the volumes between which to translate.
        label_names: Meaning of the values of the label map.
        description: One sentence for the datalist.
        check_parameters: Function that turns the user's arguments (None where not given) into the full set of
            parameters.
        make_patient: Function (patient index, parameters) -> volumes: one per domain, `label`, and any further truth.
            It must be defined at module level, since it is sent to other processes.
    """

    name: str
    domains: tuple[str, ...]
    label_names: Mapping[int, str]
    description: str
    check_parameters: Callable[..., dict[str, Any]]
    make_patient: Callable[[int, Parameters], dict[str, Volume]]

    def generate(self, output_dir: str | Path, *, workers: int | None = None, **arguments: Any) -> Path:
        """Write a data set of this kind, or return the one that is already complete.

        Args:
            output_dir: Folder of the data set; created if it does not exist.
            workers: Number of processes, each with one thread; by default one per processor.
            arguments: Those of `generate_phantom` that determine the data, such as `patients`.

        Returns:
            Path of the datalist.

        Raises:
            ValueError: An argument is out of range, or the folder holds a data set with other parameters.
        """
        if workers is not None:
            check_integer("workers", workers, minimum=1)
        return write_dataset(self, self.check_parameters(**arguments), Path(output_dir), workers=workers)


def write_dataset(kind: PhantomKind, parameters: Parameters, output_dir: Path, *, workers: int | None = None) -> Path:
    """Generate the patients of a data set that are not there yet, and write its datalist.

    The datalist is written last: where it exists, the data set was complete.

    Args:
        kind: Kind of phantom.
        parameters: Parameters as `kind.check_parameters` returns them; `patients` is the number of patients.
        output_dir: Folder of the data set.
        workers: Number of processes, each with one thread; by default one per processor, at most one per patient.

    Returns:
        Path of the datalist.

    Raises:
        ValueError: The folder holds a data set with other parameters.
    """
    datalist_path = output_dir / DATALIST_NAME
    patients: Sequence[int] = range(parameters["patients"])
    if datalist_path.exists():
        patients = _unfinished_patients(datalist_path, parameters)
        if not patients:
            print(f"{kind.name} phantom: all {parameters['patients']} patients are already in {output_dir}.")
            return datalist_path
        print(f"{kind.name} phantom: files of {len(patients)} patients are missing in {output_dir}, making them again.")
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    (output_dir / "labels").mkdir(parents=True, exist_ok=True)
    entries = _write_patients(kind, parameters, output_dir, patients=patients, workers=workers)
    if not datalist_path.exists():
        text = json.dumps(make_datalist(kind, parameters, entries), indent=2)
        write_text(datalist_path, text)
    return datalist_path


def split_counts(patients: int) -> tuple[int, int, int]:
    """Compute the numbers of training, validation and test patients; every part has at least one.

    Example:
        >>> split_counts(24)
        (14, 3, 7)
    """
    training = round(TRAINING_SHARE * patients)
    validation = max(1, int(VALIDATION_SHARE * patients))
    return training, validation, patients - training - validation


def make_datalist(kind: PhantomKind, parameters: Parameters, entries: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Split the patients' entries, in order, into training, validation and test.

    `training` has one domain per patient, in turn, so that no two domains share a patient; `training_paired` has the
    same patients with all their volumes.
    """
    training, validation, _ = split_counts(len(entries))
    unpaired = []
    for index, entry in enumerate(entries[:training]):
        domain = kind.domains[index % len(kind.domains)]
        unpaired.append({"image": entry[domain], "domain": domain, "patient": entry["patient"]})
    return {
        "name": f"{kind.name} phantom",
        "description": kind.description,
        "licence": LICENCE,
        "domains": list(kind.domains),
        "parameters": dict(parameters),
        "label_names": {str(value): name for value, name in kind.label_names.items()},
        "training": sorted(unpaired, key=lambda item: kind.domains.index(item["domain"])),
        "training_paired": list(entries[:training]),
        "validation": list(entries[training : training + validation]),
        "test": list(entries[training + validation :]),
    }


def write_patient(kind: PhantomKind, parameters: Parameters, output_dir: Path, patient: int) -> dict[str, str]:
    """Generate one patient, write its volumes and return its entry of the datalist with relative paths."""
    name = f"{kind.name}_{patient:04d}"
    entry = {"patient": name}
    for key, volume in kind.make_patient(patient, parameters).items():
        entry[key] = f"labels/{name}.nii.gz" if key == LABEL_KEY else f"images/{name}_{key}.nii.gz"
        write_nifti(output_dir / entry[key], volume)
    return entry


def _unfinished_patients(datalist_path: Path, parameters: Parameters) -> list[int]:
    """List the patients of an existing data set with missing files.

    Raises:
        ValueError: The data set was made by something else or with other parameters.
    """
    try:
        datalist = json.loads(datalist_path.read_text(encoding="utf-8"))
        existing = datalist["parameters"]
        entries = [*datalist["training_paired"], *datalist["validation"], *datalist["test"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{datalist_path} was not written by this generator ({error!r}): choose another --output_dir."
        ) from error
    differences = [
        f"`{key}` is {existing.get(key)!r} there and {parameters.get(key)!r} here"
        for key in sorted({*existing, *parameters})
        if existing.get(key) != parameters.get(key)
    ]
    if differences:
        raise ValueError(
            f"{datalist_path.parent} already holds a phantom of other parameters: {'; '.join(differences)}. "
            "Choose another --output_dir, or delete that folder."
        )
    root = datalist_path.parent
    return [
        index
        for index, entry in enumerate(entries)
        if not all((root / path).is_file() for key, path in entry.items() if key != "patient")
    ]


def _write_patients(
    kind: PhantomKind, parameters: Parameters, output_dir: Path, *, patients: Sequence[int], workers: int | None
) -> list[dict[str, str]]:
    """Write the patients, several at a time, and return their entries in order."""
    write = partial(write_patient, kind, parameters, output_dir)
    count = min(workers or _available_processors(), len(patients))
    entries: dict[int, dict[str, str]] = {}
    with tqdm(total=len(patients), desc=f"{kind.name} phantom", unit="patient") as progress:
        try:
            for patient, entry in _in_processes(write, patients, count=count) if count > 1 else ():
                entries[patient] = entry
                progress.update()
        except BrokenProcessPool:
            warnings.warn(
                "worker processes ended unexpectedly, going on in one process. A script that calls this must keep "
                'its own code under `if __name__ == "__main__":`.',
                stacklevel=2,
            )
        for patient in patients:
            if patient not in entries:
                entries[patient] = write(patient)
                progress.update()
    return [entries[patient] for patient in patients]


def _in_processes(
    write: Callable[[int], dict[str, str]], patients: Sequence[int], *, count: int
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (patient, entry) as the patients are finished by `count` processes of one thread each."""
    with _one_thread_in_new_processes(), worker_pool(count) as executor:
        futures = {executor.submit(write, patient): patient for patient in patients}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def _available_processors() -> int:
    """Count the processors this process may use; a container or batch system may grant fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _one_thread_in_new_processes() -> Iterator[None]:
    """Keep numerical libraries of processes started meanwhile from opening one thread per processor."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check_integer(name: str, value: object, *, minimum: int, multiple_of: int = 1) -> int:
    """Return `value` if it is an integer >= `minimum` and a multiple of `multiple_of`; raise a ValueError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum or value % multiple_of:
        rule = f"an integer >= {minimum}" if multiple_of == 1 else f"a multiple of {multiple_of} and >= {minimum}"
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.")
    return value


def check_positive(name: str, value: object, *, unit: str) -> float:
    """Return `value` as a float if it is a finite number above 0; raise a ValueError otherwise."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"`{name}` must be a number > 0 ({unit}), got {value!r}.")
    return float(value)


def check_stack(
    kind: str,
    *,
    version: int,
    defaults: tuple[int, int, int, float],
    largest_span_mm: float,
    absent: str,
    patients: int | None = None,
    slices: int | None = None,
    size: int | None = None,
    seed: int = 0,
    slice_mm: float | None = None,
) -> dict[str, Any]:
    """Check the user's arguments for a phantom of axial slices and fill in the defaults.

    Args:
        kind: Name of the kind.
        version: Version of its generator.
        defaults: Defaults of `patients`, `slices`, `size` and `slice_mm`.
        largest_span_mm: Largest distance between the first and the last slice.
        absent: What the phantom lacks beyond that span, for the message.
        patients: Number of patients, at least 4.
        slices: Number of slices per patient.
        size: Rows and columns of a slice, a multiple of 8.
        seed: Random seed.
        slice_mm: Distance between slices in mm.

    Returns:
        Full set of parameters.

    Raises:
        ValueError: An argument is out of range.
    """
    default_patients, default_slices, default_size, default_slice_mm = defaults
    parameters: dict[str, Any] = {
        "kind": kind,
        "patients": check_integer("patients", default_patients if patients is None else patients, minimum=4),
        "slices": check_integer("slices", default_slices if slices is None else slices, minimum=1),
        "size": check_integer("size", default_size if size is None else size, minimum=32, multiple_of=8),
        "seed": check_integer("seed", seed, minimum=0),
        "slice_mm": check_positive("slice_mm", default_slice_mm if slice_mm is None else slice_mm, unit="mm"),
        "version": version,
    }
    span = (parameters["slices"] - 1) * parameters["slice_mm"]
    if span > largest_span_mm:
        raise ValueError(
            f"(`slices` - 1) x `slice_mm` must be <= {largest_span_mm:g} mm, as the phantom has {absent}, "
            f"got {span:g} mm: choose fewer slices or a smaller `slice_mm`."
        )
    return parameters


def spread_evenly(patient: int, *, seed: int, task: int, step: float = GOLDEN_RATIO, index: int = 0) -> float:
    """Return one patient's term of a sequence whose fractional part is spread evenly over every few neighbours.

    A property that a patient has where the fractional part is below a threshold thus occurs in every split of the data
    set, for every seed.

    Args:
        patient: Index of the patient.
        seed: Seed of the data set, which sets the offset of the sequence.
        task: First entry of every patient's seed.
        step: Irrational step of the sequence.
        index: Which of several sequences with offsets of their own.
    """
    offset = np.random.default_rng([task, seed]).random(index + 1)[index]
    return float(offset + patient * step)
