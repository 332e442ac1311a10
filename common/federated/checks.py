"""What a site checks before it takes part in a round: MONAI's client would go on with each of these faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.networks.utils import get_state_dict
from torch import nn

from .. import preflight
from ..engines import TranslationTrainer


def check_configuration(bundle_root: str, files: Sequence[str], options: Mapping[str, Any]) -> None:
    """
    What a bundle's `run` list does first, and `MonaiAlgo`, which calls the trainer alone, does not.

    Raises:
        ValueError: when an id of the files or options has no use.
        FileNotFoundError: when `dataset_dir` of the options does not exist.
    """
    parser = ConfigParser()
    parser.read_config([str(Path(bundle_root, file)) for file in files])
    parser.update({**options, "bundle_root": bundle_root})
    preflight.check(exists=options["dataset_dir"], config=parser)


def refuse_empty_epochs(trainer: TranslationTrainer, site: str) -> None:
    """
    Without an iteration a site would send the global weights back, and FLARE would count them as one iteration's.

    Raises:
        ValueError: when the site has less than a batch of images.
    """
    loader: Any = trainer.data_loader
    if len(loader) == 0:
        raise ValueError(
            f"site {site!r} has {len(loader.dataset)} images to train on, less than one batch of {loader.batch_size}:"
            " give it more, or all sites a smaller `batch_size`."
        )


def check_weights(network: nn.Module, weights: Mapping[str, Any] | None) -> None:
    """
    Global weights must be the network's in full; `MonaiAlgo` is content with one name in common.

    Raises:
        ValueError: naming some that differ.
    """
    own = {name: tuple(value.shape) for name, value in get_state_dict(network).items()}
    given = {name: tuple(np.shape(value)) for name, value in (weights or {}).items()}
    wrong = sorted(name for name in {**own, **given} if given.get(name) != own.get(name))
    if wrong:
        raise ValueError(
            f"the global weights must be those of this site's {type(network).__name__}, but {', '.join(wrong[:3])}"
            " differ in name or shape: give all sites and the server one bundle, overlay and set of options."
        )
