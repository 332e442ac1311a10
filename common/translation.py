"""One call for a scan: translate it with a bundle, and return the volume with its warnings and its verdict.

The bundle's own `inference.yaml` runs, as by `python -m monai.bundle run inference`, and gives the same voxels.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor

from .bundles import find_bundle
from .dicom.zip_files import unpacked_for_now
from .errors import causes, collected_warnings, own_error
from .files import read_json
from .images.nifti import map_nifti
from .release.install import install_release

Target = str | Mapping[str, float]
OTHER_RELEASE = re.compile("this bundle needs `common`.*one release\\.")  # the error of `common.identity`
ARGUMENTS = {"dataset_dir": "scan", "bundle_root": "bundle"}  # ids that the call sets, by the argument


@dataclass(frozen=True)
class Translation:
    """A translated volume.

    Args:
        image: Volume (X, Y, Z) on the grid of `image.affine`, as it is written: int16 HU or float32 MR intensities.
        verdict: `passed`, or `warned` if a check of the input or of the output is in doubt.
        warnings: Messages of this translation.
        facts: Provenance and the findings of all checks, as in the sidecar.
        files: Files and folders of the output, the sidecar last; empty if no `output_dir` was given.
    """

    image: MetaTensor = field(repr=False)
    verdict: str
    warnings: list[str]
    facts: dict[str, Any] = field(repr=False)
    files: list[Path]


def translate(
    scan: str | Path,
    *,
    bundle: str | Path,
    target: Target | None = None,
    output_dir: str | Path | None = None,
    bundle_dir: str | Path | None = None,
    **overrides: Any,
) -> Translation:
    """Translate one scan.

    Args:
        scan: A volume file, the folder of a DICOM series, a zip of one, or anything else that holds one volume.
        bundle: Name or folder of a bundle, or the zip of a release, which is checked and unpacked for this call only.
        target: Target domain, or the weights of a blend; default: the bundle's.
        output_dir: Folder of the files; default: nothing is left on the disk.
        bundle_dir: Folder in which a name is looked up, besides this source tree's and MONAI's.
        overrides: Ids of `inference.yaml` and their values, such as `guards="warn"`.

    Raises:
        FileNotFoundError: If the scan does not exist.
        ValueError: If the bundle or the target is unknown, the scan holds several volumes or is refused, or an id
            is unknown. The messages list what is known.

    Example:
        `common.translate("scan.nii.gz", bundle="ggcl", target="B30f").image`
    """
    if overrides.get("output_format") == "dicom":
        raise ValueError("`output_format` must be 'nifti' or 'both', as the volume is returned, got 'dicom'.")
    with tempfile.TemporaryDirectory(prefix="translation_") as scratch:
        with collected_warnings(issued=True) as warnings:
            written = _run(
                scan,
                output_dir or Path(scratch, "output"),
                bundle=bundle,
                target=target,
                bundle_dir=bundle_dir,
                one=True,
                logging_file=False,
                overrides=overrides,
            )
        if not written:
            raise ValueError(f"`scan` {str(scan)!r} was translated before: leave `skip_done` out to do it again.")
        (files,) = written
        facts = read_json(files[-1])
        image = map_nifti(files[0])
        image = image.clone() if output_dir is None else image  # into memory, as the file will be removed
    return Translation(image, facts["verdict"], warnings, facts, [] if output_dir is None else files)


def translate_to_files(
    scan: str | Path,
    output_dir: str | Path,
    *,
    bundle: str | Path,
    target: Target | None = None,
    bundle_dir: str | Path | None = None,
    **overrides: Any,
) -> list[tuple[Path, str]]:
    """Translate all volumes of a scan into files; log and progress are those of the bundle's command line.

    Args:
        scan: As for `translate`, or a folder or pattern of any number of volumes.
        output_dir: Folder of the files.
        bundle: As for `translate`.
        target: As for `translate`.
        bundle_dir: As for `translate`.
        overrides: As for `translate`.

    Returns:
        The files, without sidecars, and the verdict of each.

    Raises:
        FileNotFoundError: As `translate`.
        ValueError: As `translate`, and after all others are translated if some volumes failed.
    """
    written = _run(
        scan,
        output_dir,
        bundle=bundle,
        target=target,
        bundle_dir=bundle_dir,
        one=False,
        logging_file=None,
        overrides=overrides,
    )
    return [(path, str(read_json(files[-1])["verdict"])) for files in written for path in files[:-1]]


def _run(
    scan: str | Path,
    output_dir: str | Path,
    *,
    bundle: str | Path,
    target: Target | None,
    bundle_dir: str | Path | None,
    one: bool,
    logging_file: bool | None,
    overrides: Mapping[str, Any],
) -> list[list[Path]]:
    """Run a bundle's inference, and return the files of each output, the sidecar last."""
    for id_ in overrides.keys() & ARGUMENTS.keys():
        raise ValueError(f"`{id_}` must be left out, as `{ARGUMENTS[id_]}` sets it, got {overrides[id_]!r}.")
    place = Path(scan).absolute()
    if not place.exists() and not glob.glob(str(scan), recursive=True):
        raise FileNotFoundError(
            f"`scan` {str(scan)!r} does not exist (from {os.getcwd()}). Give a NIfTI file, a folder of them, a DICOM"
            " series, or a zip."
        )
    with _bundle_folder(bundle, bundle_dir) as root, unpacked_for_now():
        given = {"bundle_root": str(root), "dataset_dir": str(place), "output_dir": str(Path(output_dir).absolute())}
        if target is not None:
            given["target"] = target  # type: ignore[assignment]
        failure: BaseException
        try:
            parser = _evaluated(root, {**overrides, **given}, target=target, one=one, logging_file=logging_file)
            return [list(files) for files in parser.get_parsed_content("record").published]
        except Exception as error:
            # MONAI wraps errors of components in errors of its own, and of imports in the text of another one.
            other = next(filter(None, (OTHER_RELEASE.search(str(link)) for link in causes(error))), None)
            failure = ValueError(f"`bundle` {str(bundle)!r}: {other[0]}") if other else own_error(error) or error
        raise failure


def _evaluated(
    root: Path, given: Mapping[str, Any], *, target: Target | None, one: bool, logging_file: bool | None
) -> ConfigParser:
    path = [*sys.path]
    log = logging.getLogger(ConfigWorkflow.__module__)
    level = log.level
    if logging_file is False:
        log.setLevel(logging.ERROR)  # MONAI warns that the caller's logging stays as it is
    try:
        workflow = ConfigWorkflow(
            config_file=str(root / "configs" / "inference.yaml"),
            meta_file=str(root / "configs" / "metadata.json"),
            logging_file=logging_file,
            workflow_type="inference",
            run_id="inference",
            **given,
        )
        log.setLevel(level)
        _check_target(workflow.parser, target)
        workflow.initialize()
        if one:
            _refuse_several(workflow.parser, str(given["dataset_dir"]))
        workflow.run()
        workflow.finalize()
    finally:
        log.setLevel(level)
        sys.path[:] = path  # MONAI adds the bundle's folder, which may be a temporary one
    return workflow.parser


def _check_target(parser: ConfigParser, target: Target | None) -> None:
    """Refuse a target that the network does not make, as an output would be named after it."""
    if target is None or "definition" not in parser:
        return
    definition = parser.get_parsed_content("definition")
    domains = definition["domains"]
    known = definition.get("targets", domains) if isinstance(domains, list) else [domains["target"]]
    named = list(target) if isinstance(target, Mapping) and isinstance(domains, list) else [target]
    if unknown := [name for name in named if name not in known]:
        raise ValueError(f"`target` must be one of {', '.join(map(str, known))}, got {unknown[0]!r}.")


def _refuse_several(parser: ConfigParser, scan: str) -> None:
    images = parser.get_parsed_content("images")
    if len(images) > 1:
        raise ValueError(
            f"`scan` {scan!r} holds {len(images)} volumes, and one is returned: give one of them, or let"
            " `python -m common translate` write all."
        )


@contextmanager
def _bundle_folder(bundle: str | Path, bundle_dir: str | Path | None) -> Iterator[Path]:
    """Yield the folder of a bundle; a release's zip is unpacked in a temporary one."""
    if Path(bundle).suffix != ".zip":
        yield find_bundle(bundle, places=[bundle_dir] if bundle_dir else _default_folders()).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="bundle_") as folder:
        yield install_release(bundle, folder).resolve()


def _default_folders() -> list[Path]:
    return [Path.cwd(), Path(torch.hub.get_dir()) / "bundle"]  # the latter is where MONAI downloads bundles to
