"""Former names: public names that have moved or changed, and former sections of the bundles' configs.

Configs and overlays that use them go on working, with a warning (docs/upgrading.md).
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any, NamedTuple

from .identity import refuse_left_out

MOVED = {
    "common.data.DicomSeriesReader": "common.dicom.DicomSeriesReader",
    "common.data.NiftiSliceWriter": "common.images.NiftiSliceWriter",
    "common.data.axial_triplets": "common.data.axial_stacks",
    "common.data.image_readers": "common.dicom.image_readers",
    "common.data.nifti_bytes": "common.images.nifti_bytes",
    "common.data.source_files": "common.dicom.source_files",
    "common.engines.CheckSourceSeriesd": "common.inference.CheckSourceSeriesd",
    "common.engines.ConversionInferer": "common.inference.ConversionInferer",
    "common.engines.FailedCasesError": "common.inference.FailedCasesError",
    "common.engines.LoadWeights": "common.inference.LoadWeights",
    "common.engines.OutputCheck": "common.inference.OutputCheck",
    "common.engines.RunRecord": "common.inference.RunRecord",
    "common.engines.SaveOutputd": "common.inference.SaveOutputd",
    "common.engines.SetPrecision": "common.inference.SetPrecision",
    "common.engines.SuperResolve": "common.inference.SuperResolve",
    "common.engines.TileInferer": "common.inference.TileInferer",
    "common.engines.TranslateSlices": "common.inference.TranslateSlices",
    "common.engines.TripletInferer": "common.inference.StackInferer",
    "common.engines.cases_to_do": "common.inference.cases_to_do",
    "common.engines.check_output_format": "common.inference.check_output_format",
    "common.engines.own_share": "common.inference.own_shard",
    "common.engines.run_cases": "common.inference.run_cases",
    "common.engines.run_facts": "common.run_facts.run_facts",
    "common.engines.run_share": "common.inference.run_shard",
    "common.engines.translated_slabs": "common.inference.translated_slabs",
    "common.engines.volume_inferer": "common.inference.volume_inferer",
    "common.engines.weight_facts": "common.inference.weight_facts",
    "common.inference.TripletInferer": "common.inference.StackInferer",
    "common.inference.own_share": "common.inference.own_shard",
    "common.inference.run_share": "common.inference.run_shard",
    "common.metrics.write_json": "common.files.write_json",
    "common.metrics.write_text": "common.files.write_text",
    "common.transforms.CheckNoAgentd": "common.transforms.CheckNoContrastAgentd",
    "common.transforms.SliceStorage": "common.images.SliceStorage",
    "common.transforms.file_name": "common.images.file_name",
    "common.transforms.finer_affine": "common.images.finer_affine",
    "common.transforms.output_layout": "common.images.output_layout",
    "common.transforms.save_volume": "common.images.save_volume",
    "common.transforms.target_name": "common.images.target_name",
}


def moved_attribute(package: str, name: str) -> Any:
    """Find a name that a package exported before it moved.

    Args:
        package: Dotted name of the package that was asked.
        name: Attribute that it lacks.

    Returns:
        The object under its new name, after a `FutureWarning` that names the new place.

    Raises:
        AttributeError: If the package never had it.
        ImportError: If this is a release, which left it out.

    Example:
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     moved_attribute("common.engines", "TileInferer").__module__
        'common.inference.tiles'
    """
    refuse_left_out(package, name)
    new = MOVED.get(f"{package}.{name}")
    if new is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    warnings.warn(f"{package}.{name} is now {new}; the old name will go in 0.3.", FutureWarning, stacklevel=3)
    module, _, attribute = new.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


class FormerSection(NamedTuple):
    """A former component of the configs, of which only the arguments are left.

    Attributes:
        was: The component, for expressions that refer to it.
        taker: Id of the component that takes the arguments now.
        target: `_target_` of that component; one with another `_target_` dates from before the change.
    """

    was: dict[str, Any]
    taker: str
    target: str


FORMER_SECTIONS = {
    "train::sampler": FormerSection(
        was={
            "_target_": "common.data.EpochSampler",
            "length": "$len(@train::dataset)",
            "samples_per_epoch": "@samples_per_epoch",
            "seed": "@seed",
        },
        taker="train::dataloader",
        target="common.data.epoch_loader",
    )
}
