"""
Write a phantom data set: patients in parallel, NIfTI files that are complete or absent, one datalist.

A volume with its affine, and NIfTI files that are either complete or absent.

Checks of what a user passes to a phantom generator.
"""

from __future__ import annotations

import gzip
import json
import math
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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

from ..files import atomic_write

GZIP_LEVEL = 4


class Volume(NamedTuple):
    """A volume (X, Y, Z), or one of vectors (X, Y, Z, 3), and its affine (4, 4) from voxels to RAS+ millimetres."""

    data: NDArray[Any]
    affine: NDArray[np.float64]


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a NIfTI with sform and qform in scanner coordinates and millimetres; all or nothing.

    Volumes become int16, rounded; uint16 stays. Vectors become float32 with their components along the fourth axis, as
    nibabel and MONAI read them (the five axes of NIfTI's vector intent would reach MONAI as a fourth spatial one).
    """
    vectors = volume.data.ndim == 4
    data = volume.data.astype(np.float32) if vectors else _as_integers(volume.data, path)
    image = nibabel.Nifti1Image(data, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(volume.affine, code="scanner")
    # Its float32 quaternion is coarse for flipped axes (1e-3 of a voxel): let both forms say the same.
    image.set_sform(image.get_qform(), code="scanner")
    write_atomically(path, gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0))


def _as_integers(data: NDArray[Any], path: Path) -> NDArray[np.int16] | NDArray[np.uint16]:
    """``data`` itself if uint16, else as int16; ValueError naming the file where it does not fit."""
    if data.dtype == np.uint16:
        return data
    rounded = np.rint(data)
    limits = np.iinfo(np.int16)
    if rounded.min() < limits.min or rounded.max() > limits.max:
        raise ValueError(f"Values of {path.name} must fit int16, got {rounded.min():g} to {rounded.max():g}.")
    return rounded.astype(np.int16)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is complete."""
    with atomic_write(path, needed=len(content)) as file:
        file.write(content)


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


@dataclass(frozen=True)
class PhantomKind:
    """What the writer needs to know of a kind of phantom.

    Attributes:
        name: of the kind, also the first part of patient and file names.
        domains: keys of the volumes between which to translate.
        label_names: meaning of the values of the label map.
        description: one sentence for the datalist.
        check_parameters: turns the user's arguments (None where not given) into the full set of parameters.
        make_patient: (patient index, parameters) -> volumes: one for each domain, `label`, and any further truth. A
            function of a module, as it is sent to other processes.
    """

    name: str
    domains: tuple[str, ...]
    label_names: Mapping[int, str]
    description: str
    check_parameters: Callable[..., dict[str, Any]]
    make_patient: Callable[[int, Parameters], dict[str, Volume]]


def write_dataset(kind: PhantomKind, parameters: Parameters, output_dir: Path, *, workers: int | None = None) -> Path:
    """Generate all patients of a data set and its datalist; only what is missing if it is already there.

    The datalist is written last: where it exists, the data set was complete.

    Args:
        kind: what to generate.
        parameters: as ``kind.check_parameters`` returns them; `patients` is their number.
        output_dir: folder of the data set.
        workers: number of processes, one thread each; default one for each processor, at most one a patient.

    Returns:
        path of the datalist.

    Raises:
        ValueError: the folder holds a data set of other parameters.
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
        write_atomically(datalist_path, text.encode())
    return datalist_path


def split_counts(patients: int) -> tuple[int, int, int]:
    """Number of training, validation and test patients, in this order; every part has at least one.

    Example:
        >>> split_counts(24)
        (14, 3, 7)
    """
    training = round(TRAINING_SHARE * patients)
    validation = max(1, int(VALIDATION_SHARE * patients))
    return training, validation, patients - training - validation


def make_datalist(kind: PhantomKind, parameters: Parameters, entries: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Split the patients' entries, in order, into training, validation and test.

    `training` has one domain a patient, in turn, so that no two domains share a patient; `training_paired` has the
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
    """Generate one patient and write its volumes; returns its entry of the datalist with relative paths."""
    name = f"{kind.name}_{patient:04d}"
    entry = {"patient": name}
    for key, volume in kind.make_patient(patient, parameters).items():
        entry[key] = f"labels/{name}.nii.gz" if key == LABEL_KEY else f"images/{name}_{key}.nii.gz"
        write_nifti(output_dir / entry[key], volume)
    return entry


def _unfinished_patients(datalist_path: Path, parameters: Parameters) -> list[int]:
    """Patients of an existing data set that miss a file; ValueError if its parameters are not these."""
    try:
        datalist = json.loads(datalist_path.read_text())
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
    """Yield (patient, entry) as the patients are finished by ``count`` processes of one thread each."""
    # Spawned, not forked: the caller may have started threads (torch does).
    context = multiprocessing.get_context("spawn")
    with _one_thread_in_new_processes(), ProcessPoolExecutor(count, mp_context=context) as executor:
        futures = {executor.submit(write, patient): patient for patient in patients}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def _available_processors() -> int:
    """Processors this process may use (a container or batch system may grant fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _one_thread_in_new_processes() -> Iterator[None]:
    """Keep numerical libraries of processes that start meanwhile from opening a thread for each processor."""
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
    """Return ``value`` if it is an integer >= ``minimum`` and a multiple of ``multiple_of``; ValueError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum or value % multiple_of:
        rule = f"an integer >= {minimum}" if multiple_of == 1 else f"a multiple of {multiple_of} and >= {minimum}"
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.")
    return value


def check_positive(name: str, value: object, *, unit: str) -> float:
    """Return ``value`` as a float if it is a finite number above 0; ValueError otherwise."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"`{name}` must be a number > 0 ({unit}), got {value!r}.")
    return float(value)
