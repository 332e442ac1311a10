"""Score a folder of outputs that any program made: the metrics, baselines and report of a bundle's own evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from .bundles import SUPER_RESOLUTION, find_bundle, find_bundles, translation_task
from .data.datalist import load_datalist
from .errors import own_error
from .files import refuse_outside
from .images.grids import finer_affine
from .images.names import output_layout, source_path
from .metrics.summary import NETWORK
from .reports.inputs import read_inputs
from .reports.report import write_report
from .reports.tables import results_table

PATTERN = "{name}_synthetic_{target}"  # as `inference` names its outputs
FIELDS = ("patient", "source", "target", "name")
EXTENSIONS = (".nii.gz", ".nii")
TOLERANCE_MM = 1e-2
MOST_NAMED = 5  # of missing files in a message


class Wanted(NamedTuple):
    """Output that a test case needs: its source's file, and the file of the output."""

    patient: str
    source: str
    target: str
    scan: str
    output: Path


def score_outputs(
    predictions: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    bundle: str,
    output_dir: str | os.PathLike[str] = "runs/score",
    pattern: str = PATTERN,
    split: str = "test",
    name: str | None = None,
) -> Path:
    """Score outputs in the place of a bundle's network, beside its baselines, and report.

    An output is scored in the units in which it is saved, against the same truth, over the same voxels and by the same
    functions as the network in the bundle's `evaluating`. A direction without any output is left out; in one that has
    some, every case must have its output.

    Args:
        predictions: Folder of the outputs, NIfTI files.
        data: Data folder whose datalist names sources and truths.
        bundle: A folder in `bundles`, or the path of another bundle, whose evaluation is used.
        output_dir: Folder of `summary.json`, `metrics.csv`, `report.html` and a copy of the outputs.
        pattern: Name of an output below `predictions`, with or without folders and extension. It may hold `{patient}`,
            `{source}` and `{target}` (domains) and `{name}` (the source's file name without its extension). A name
            without a folder is found in any folder.
        split: List of the datalist.
        name: What the outputs are called in the report; default: the folder's name.

    Returns:
        Path of the report.

    Raises:
        FileNotFoundError: If an output is missing.
        ValueError: If the pattern is not valid, two files have the name of one output, or an output is not on the grid
            that its source asks for. The message names the file, the rule and the cure.
    """
    root, folder = find_bundle(bundle, among=find_bundles()), Path(predictions)
    if not folder.is_dir():
        raise FileNotFoundError(f"`predictions` {str(folder)!r} must be a folder of outputs; there is no such folder.")
    check_pattern(pattern)
    title = name or folder.resolve().name
    facts = {"bundle": title, "evaluation_of": root.name, "outputs": str(predictions), "data": str(data)}
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / f"{file}.yaml") for file in ("inference", "evaluate")])
    given = {"bundle_root": str(root), "dataset_dir": str(data), "output_dir": str(output_dir), "split": split}
    # No weights are loaded: the outputs stand for the network.
    parser.update({**given, "blends": [], "handlers": [], "facts": facts, "intervals": None})
    try:
        cases = load_datalist(str(data), split)
        directions = parser.get_parsed_content("evaluator#directions")
        factor = 1
        if translation_task(root) == SUPER_RESOLUTION:
            factor = int(parser.get_parsed_content("network_def").factor)
        found = find_outputs(folder, cases, directions, pattern=pattern)
        for each in found:
            check_grid(each, factor=factor)
        kept = [list(pair) for pair in dict.fromkeys((each.source, each.target) for each in found)]
        translator = SavedOutputs(found)
        parser.update({"networks": {NETWORK: translator}, "evaluator#directions": kept})
        evaluator = parser.get_parsed_content("evaluator")
        evaluator.network = None  # whose facts would be about the bundle's
        evaluator.run()
    except Exception as error:
        raise own_error(error) or error from None
    inputs = read_inputs(output_dir)
    print(results_table(inputs.summary, task=inputs.task))
    return write_report(output_dir)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern whose fields are unknown.

    Raises:
        ValueError: If there is another field than those of `FIELDS`, or a lone bracket.

    Example:
        >>> check_pattern("{patient}_{domain}")
        Traceback (most recent call last):
        ...
        ValueError: `pattern` may hold {patient}, {source}, {target} and {name}, each plain, got '{patient}_{domain}'.
    """
    try:
        parts = [(field, form, change) for _, field, form, change in Formatter().parse(pattern) if field is not None]
    except ValueError:
        parts = [("", "", None)]
    if any(field not in FIELDS or form or change for field, form, change in parts):
        named = ", ".join(f"{{{field}}}" for field in FIELDS[:-1])
        raise ValueError(f"`pattern` may hold {named} and {{{FIELDS[-1]}}}, each plain, got {pattern!r}.")


def find_outputs(
    folder: Path, cases: Sequence[Mapping[str, Any]], directions: Sequence[Sequence[str]], *, pattern: str = PATTERN
) -> list[Wanted]:
    """Find the outputs of all cases in the directions that have any.

    Args:
        folder: Folder of the outputs.
        cases: Entries of a datalist.
        directions: Pairs of a source and a target domain.
        pattern: Name of an output, see `score_outputs`.

    Raises:
        FileNotFoundError: If there is none, or one is missing.
        ValueError: If two files could be one output.
    """
    found: list[Wanted] = []
    missing: list[str] = []
    looked_for = ""
    for source, target in directions:
        able = [case for case in cases if case.get(source)]
        pairs = [(_wanted_name(case, source, target, pattern), case) for case in able]
        paths = [(find_output(folder, wanted), wanted, case) for wanted, case in pairs]
        looked_for = looked_for or next((wanted for wanted, _ in pairs), "")
        if not any(path for path, _, _ in paths):
            continue
        for path, wanted, case in paths:
            patient = str(case.get("patient", Path(case[source]).name))
            if path is None:
                missing.append(f"{wanted!r} (patient {patient}, {source} to {target})")
            else:
                found.append(Wanted(patient, source, target, os.path.abspath(case[source]), path))
    cure = 'say by `--pattern` how the outputs are called, such as "{patient}_{target}.nii.gz"'
    if not found:
        raise FileNotFoundError(
            f"`predictions` {str(folder)!r} must hold the outputs of the datalist's cases, found none, such as"
            f" {looked_for!r}: {cure}."
        )
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise FileNotFoundError(
            f"`predictions` {str(folder)!r} must hold an output for every case of a direction, but lacks"
            f" {', '.join(missing[:MOST_NAMED])}{more}: make them as well, or {cure}."
        )
    return found


def find_output(folder: Path, wanted: str) -> Path | None:
    """Find a file by its name, with or without extension; a name without a folder is found in any folder.

    Raises:
        ValueError: If several files have the name, or it leads out of the folder.
    """
    names = [wanted] if wanted.endswith(EXTENSIONS) else [wanted + extension for extension in EXTENSIONS]
    for each in names:
        refuse_outside(folder, folder / each)
    found = [folder / each for each in names if (folder / each).is_file()]
    if not found and Path(wanted).name == wanted:
        found = sorted(path for path in folder.rglob("*") if path.name in names and path.is_file())
    if len(found) > 1:
        raise ValueError(
            f"{str(found[0])!r} and {str(found[1])!r} could both be the output {wanted!r}: remove one of them, or name"
            " the folder in `--pattern`."
        )
    return found[0] if found else None


def check_grid(wanted: Wanted, *, factor: int = 1) -> None:
    """Refuse an output that is not on its source's grid, or in super-resolution on one of finer pixels.

    Args:
        wanted: Output and its source, of which only the headers are read.
        factor: Ratio of the source's to the output's pixel size.

    Raises:
        ValueError: If shape or affine differ; the message names both files.
    """
    source, output = (nib.as_closest_canonical(_opened(path)) for path in (wanted.scan, wanted.output))
    x, y, z = source.shape[:3]
    shape, affine = (factor * x, factor * y, z), finer_affine(source.affine, factor)
    given = tuple(n for axis, n in enumerate(output.shape) if axis < 3 or n > 1)
    if given != shape or not np.allclose(output.affine, affine, atol=TOLERANCE_MM):
        which = "grid of its source" if factor == 1 else f"grid of {factor} times as fine pixels as its source's"
        fault = f"shape {given}, expected {shape}" if given != shape else "another affine"
        raise ValueError(
            f"{str(wanted.output)!r} must be on the {which}, {wanted.scan!r}, but has {fault} (along the patient's"
            " axes R, A, S): resample it to that grid, or save it with that affine."
        )


class SavedOutputs:
    """A `Translator` that returns saved outputs.

    Args:
        outputs: Outputs with their sources.
    """

    def __init__(self, outputs: Sequence[Wanted]) -> None:
        self.files = {(each.scan, each.target): each.output for each in outputs}

    def __call__(self, volume: MetaTensor, target: str) -> MetaTensor:
        """Return the output for a loaded source, (1, X, Y, Z).

        Raises:
            ValueError: If it holds anything but finite numbers.
        """
        path = self.files[os.path.abspath(source_path(volume) or ""), target]
        image = _opened(path)
        voxels = np.asarray(image.dataobj, dtype=np.float32)
        voxels = voxels.reshape(voxels.shape[:3])
        if not np.isfinite(voxels).all():
            count = int((~np.isfinite(voxels)).sum())
            raise ValueError(
                f"{str(path)!r} must hold finite numbers, but {count} voxels are NaN or infinite: mend it."
            )
        meta = {name: value for name, value in volume.meta.items() if name not in ("affine", "original_affine")}
        return MetaTensor(torch.as_tensor(voxels[None].copy()), affine=torch.as_tensor(image.affine), meta=meta)


def _wanted_name(case: Mapping[str, Any], source: str, target: str, pattern: str) -> str:
    scan = Path(case[source])
    # The layout of `inference` knows which extensions a scan may have.
    layout = output_layout("", "t", data_root_dir=scan.parent, extension="")
    name = Path(layout.filename(str(scan))).name.removesuffix("_synthetic_t")
    return pattern.format(patient=case.get("patient", name), source=source, target=target, name=name)


def _opened(path: str | Path) -> Any:
    try:
        return nib.load(path)  # type: ignore[no-untyped-call]
    except nib.filebasedimages.ImageFileError as error:
        raise ValueError(f"{str(path)!r} must be a NIfTI file, but could not be read: {error}") from error
