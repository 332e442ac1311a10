"""Settings that a federation's server may choose for a site: an allow list of names, and the kind of each value.

MONAI calls what a configuration names and evaluates its expressions, and even the name of a harmless module reaches
others (`common.networks.definition.os.system`). Hence nothing is searched for what is dangerous: a job sets the values
of listed names, as plain numbers, truth values, words and flat lists of numbers, and nothing else.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..files import read_json, shown
from ..preflight import WHOLE_NUMBERS

POLICY_VARIABLE = "FEDERATED_POLICY"  # a site's own lists: the path of a JSON file
TRAIN, EVALUATE = "train_options", "evaluate_options"
LISTED: dict[str, tuple[str, ...]] = {
    TRAIN: (
        *("amp", "autoencoding_epochs", "autoencoding_weight", "batch_size", "betas", "channels"),
        *("classification_weight", "classifier_epochs", "classifier_width", "content_weight", "critic_steps"),
        *("cycle_weight", "decay", "discriminator_channels", "distance", "downsample_weight", "downsampled_every"),
        *("edge_epsilon", "edge_weight", "factor", "feature_pooling", "guidance_weight", "hu_range", "image_size"),
        *("l1_weight", "learning_rate", "mmsr_weight", "num_patches", "num_res_blocks", "num_res_units", "output"),
        *("patch_size", "patches_per_volume", "percentiles", "perceptual_weights", "pool_size", "residual"),
        *("samples_per_epoch", "seed", "source_discriminator_layers", "source_identity_weight", "source_ssim_weight"),
        *("spacing_mm", "spacing_tolerance", "spade_channels", "ssim_constants", "style_weight"),
        *("target_discriminator_layers", "target_identity_weight", "target_ssim_weight", "temperature"),
        "upsample_weight",
    ),
    EVALUATE: ("batch_size", "precision", "split", "tile_size"),
}
NAME = re.compile(r"[a-z][a-z0-9_]*")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LARGEST = 2**53  # whole numbers up to here are exact in JSON and in floating point
LONGEST = 16  # numbers in a list


def listed(which: str) -> tuple[str, ...]:
    """Return the names that a job may set on this site.

    Args:
        which: `train_options` or `evaluate_options`.

    Returns:
        The site's own list, from the JSON file that the environment variable `FEDERATED_POLICY` names, else `LISTED`.

    Raises:
        ValueError: If the file is not an object of lists of names, or has a list of another name.
        FileNotFoundError: If there is no such file.
    """
    path = os.environ.get(POLICY_VARIABLE)
    if not path:
        return LISTED[which]
    policy = read_json(path, cure=f'give ${POLICY_VARIABLE} a file such as {{"{TRAIN}": ["batch_size"]}}')
    for key, names in policy.items():
        if key not in LISTED or not isinstance(names, list) or not all(_is_name(name) for name in names):
            raise ValueError(
                f"`{path}` must hold lists of top-level ids under {TRAIN!r} and {EVALUATE!r}, without `#` and `::`, got"
                f" {key!r}: {shown(names)}."
            )
    return tuple(policy.get(which, LISTED[which]))


def refuse_unlisted(options: Any, which: str) -> None:
    """Refuse options that the site's list lacks, and values that are not plain.

    Args:
        options: Names and values that the server sent.
        which: `train_options` or `evaluate_options`.

    Raises:
        ValueError: If a name is not listed, or a value is not a finite number, a truth value, a word, null or a flat
            list of finite numbers; the message names it.

    Example:
        >>> refuse_unlisted({"batch_size": 2, "spacing_mm": [1.0, 1.0, -1]}, "train_options")
        >>> refuse_unlisted({"network_def": {"_target_": "os.system"}}, "train_options")
        Traceback (most recent call last):
        ...
        ValueError: `train_options` may set what this site's policy lists (docs/federated.md), got 'network_def'. Put \
other settings into an overlay that every site has in its bundle.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"`{which}` must be names and values, got {shown(options)}.")
    allowed = listed(which)
    for name, value in options.items():
        if not isinstance(name, str) or name not in allowed:
            near = difflib.get_close_matches(str(name)[:80], allowed, n=1, cutoff=0.7)
            cure = f"Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"`{which}` may set what this site's policy lists (docs/federated.md), got {shown(name)}."
                f" {cure or 'Put other settings into an overlay that every site has in its bundle.'}"
            )
        numbers = value if isinstance(value, (list, tuple)) else []
        plain = value is None or isinstance(value, bool) or _is_number(value) or _is_word(value)
        if not plain and not (0 < len(numbers) <= LONGEST and all(map(_is_number, numbers))):
            raise ValueError(
                f"`{name}` of `{which}` must be a finite number, true, false, null, a word of letters, digits, `.`,"
                f" `_` and `-`, or a list of at most {LONGEST} finite numbers, got {shown(value)}: a job brings no"
                " code, and no sections."
            )


def refuse_other_kinds(options: Mapping[str, Any], which: str, bundle_root: str | Path, files: Sequence[str]) -> None:
    """Refuse values of another kind than those in the site's own files.

    A truth value stays one, a word a word, a whole number whole, a list of numbers a list; null is a value where a file
    has null, and such a setting may be a number. What the files only compute cannot be set.

    Args:
        options: Names and values, see `refuse_unlisted`.
        which: `train_options` or `evaluate_options`.
        bundle_root: Bundle of the site.
        files: YAML files relative to it, of which later ones override earlier ones.

    Raises:
        ValueError: If a kind differs, or no file has a plain value of that name; the message names it.
    """
    configs = [ConfigParser.load_config_file(Path(bundle_root, file)) for file in files]
    for name, value in options.items():
        own = [config[name] for config in configs if name in config and _is_plain(config[name])]
        if not own:
            raise ValueError(f"`{name}` of `{which}` must be a plain value in {', '.join(files)}, but none has it.")
        rule = "null" if None in own else ""
        kinds = [one for one in own if one is not None]
        if value is None and rule:
            continue
        kind = _kind(kinds[-1] if kinds else (1 if name.endswith(WHOLE_NUMBERS) else 1.0))
        if not _fits(value, kind):
            rule = f"{kind} or {rule}" if rule else kind
            example = kinds[-1] if kinds else None
            raise ValueError(
                f"`{name}` of `{which}` must be {rule}, as {shown(example)} in the bundle, got {shown(value)}."
            )


FLAG, WHOLE, REAL, TEXT = "true or false", "a whole number", "a number", "a word"
WHOLES, REALS = "a list of whole numbers", "a list of numbers"


def _kind(own: Any) -> str:
    if isinstance(own, list):
        return WHOLES if all(isinstance(number, int) for number in own) else REALS
    kinds = ((bool, FLAG), (int, WHOLE), (float, REAL))
    return next((kind for class_, kind in kinds if isinstance(own, class_)), TEXT)


def _fits(value: Any, kind: str) -> bool:
    """Return whether a value that `refuse_unlisted` passed is of a kind; a whole number is a number as well."""
    value = list(value) if isinstance(value, tuple) else value
    if value is None or isinstance(value, list) != (kind in (WHOLES, REALS)):
        return False
    if isinstance(value, list):
        return _kind(value) == WHOLES or kind == REALS
    return _kind(value) == kind or (kind == REAL and _kind(value) == WHOLE)


def _is_plain(value: Any) -> bool:
    """Return whether a file's value is a scalar or a flat list of numbers, and nothing that MONAI evaluates."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_number, value))
    return value is None or isinstance(value, bool) or _is_number(value) or _is_word(value)


def _is_number(value: Any) -> bool:
    """Return whether a value is a number of moderate size, which excludes NaN and infinity."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None
