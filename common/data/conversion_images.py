"""The images that an inference between several domains converts, each with the domain that its datalist gives it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .datalist import DATALIST_NAME, load_datalist
from .inference_images import find_images

logger = logging.getLogger(__name__)


def find_conversions(
    dataset_dir: str | Path, domains: Sequence[str], target: str | Mapping[str, float], *, source: str | None = None
) -> list[dict[str, str]]:
    """
    The images that an inference converts, as MONAI data items `{"image": path, "domain": name}`.

    A datalist's `test` list tells each image's domain. Of a patient with one volume a domain, those of `source` are
    taken, or, without it, all but the target's; a patient without one is left out, with a warning. What has no datalist
    (a file, a folder, a pattern) has no `domain`.

    Args:
        dataset_dir: see `find_images`.
        domains: names of the network's domains.
        target: a domain, or the weights of a blend.
        source: the only domain to convert, if given.

    Raises:
        FileNotFoundError: when nothing is there.
        ValueError: when the datalist's test list has nothing to convert, or an entry no image of any domain.
    """
    path = Path(dataset_dir)
    if not (path.suffix == ".json" and path.is_file()) and not (path / DATALIST_NAME).is_file():
        return find_images(dataset_dir)
    wanted = [source] if source is not None else [domain for domain in domains if domain != target]
    entries = load_datalist(path, "test")
    found = [item for entry in entries for item in _images(entry, domains, wanted)]
    if not found:
        raise ValueError(
            f"The test list of the datalist in {str(dataset_dir)!r} has no image of the kernels {wanted} to convert to"
            f" {target!r}. Choose another `--target` or `--source`."
        )
    if source is None and any("image" not in entry for entry in entries):
        kinds = [domain for domain in wanted if any(item.get("domain") == domain for item in found)]
        logger.info(
            f"{str(dataset_dir)!r} has a datalist: all of its test images with the kernels {', '.join(kinds)} are"
            " converted. Give `--source` for one kernel only."
        )
    return found


def _images(entry: Mapping[str, Any], domains: Sequence[str], wanted: Sequence[str]) -> list[dict[str, str]]:
    """The images of an entry: one image of any domain, or one for each of the wanted domains."""
    of_domains = [domain for domain in wanted if domain in entry]
    if of_domains:
        return [{"image": str(entry[domain]), "domain": domain} for domain in of_domains]
    if "image" in entry:
        domain = entry.get("domain")
        return [{"image": str(entry["image"]), **({} if domain is None else {"domain": str(domain)})}]
    if any(domain in entry for domain in domains):
        logger.warning(f"Patient {entry.get('patient')!r} has no image of the kernels {list(wanted)}: left out.")
        return []
    raise ValueError(
        f"The datalist's test entry of patient {entry.get('patient')!r} must have an `image`, or one for each of the"
        f" kernels {list(domains)}; it has {sorted(entry)}. Correct the entry (docs/data.md)."
    )
