"""Findings of checks, and the transform that runs all checks of an input and notes their findings in its meta data."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from monai.transforms import Transform

from ...errors import ImpossibleError, collected_warnings
from ...images.names import file_name
from ...images.nifti import DOUBTS

logger = logging.getLogger(__name__)

GUARDS = "guards"  # in an image's meta data: a JSON text, which survives MONAI's collation
REFUSE, WARN, OFF = "refuse", "warn", "off"
MODES = (REFUSE, WARN, OFF)
PASSED, WARNED, OVERRIDDEN = "passed", "warned", "overridden"
Check = Callable[[Mapping[Hashable, Any]], Mapping[Hashable, Any]]


@dataclass(frozen=True)
class Finding:
    """The verdict of one check.

    Args:
        check: Name of the check.
        verdict: Verdict, `passed`, `warned`, or `overridden` (refused, but the user asked to go on).
        value: Measured value.
        limit: Limit that the value must not exceed, or fall below; a range as (low, high).
        evidence: Evidence in words.
    """

    check: str
    verdict: str
    value: Any = None
    limit: Any = None
    evidence: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are not None, for JSON.

        Example:
            >>> Finding("modality", "passed").as_dict()
            {'check': 'modality', 'verdict': 'passed'}
        """
        return {name: value for name, value in asdict(self).items() if value is not None}


class Guards(Transform):
    """Run the checks of an input as strictly as the user wants, and note their findings.

    A check raises `ValueError` for a certain fault and warns, by `warnings` or the log, of a doubt. The mode `refuse`
    leaves both as they are, `warn` turns a refusal into a warning, `off` runs only the checks in `always`. An
    `ImpossibleError` is a refusal in every mode: without what it asks for there can be no output. What the
    reader of the image found doubtful in its header is noted as well, as the finding `header`.

    Args:
        checks: Transforms of a data item, by the name of the check.
        mode: Strictness, `refuse`, `warn` or `off`.
        always: Transforms that run in every mode, by name, because later steps need what they find.
        key: Key of the image in whose meta data the findings are noted, as a JSON text under `guards`.

    Raises:
        ValueError: If `mode` is none of the three; when called, if a check refuses the image.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> guards = Guards({"nothing": lambda item: item})
        >>> noted(guards({"image": MetaTensor(torch.zeros(1, 2, 2, 1))})["image"])
        [{'check': 'nothing', 'verdict': 'passed'}]
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        mode: str = REFUSE,
        *,
        always: Mapping[str, Check] | None = None,
        key: str = "image",
    ) -> None:
        # YAML and the command line read a bare `off` as False.
        self.mode = OFF if mode is False else mode  # type: ignore[comparison-overlap]
        if self.mode not in MODES:
            raise ValueError(f"`guards` must be one of {', '.join(MODES)}, got {mode!r}.")
        self.checks, self.always, self.key = dict(checks), dict(always or {}), key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item, findings = dict(data), []
        if (doubts := doubts_of(item[self.key])) and self.mode != OFF:
            logger.warning(f"The header of {file_name(item[self.key])} is doubtful: {'; '.join(doubts)}. Check it.")
            findings.append(Finding("header", WARNED, evidence="; ".join(doubts)))
        for name, check in ({} if self.mode == OFF else self.checks).items():
            item, finding = self._run(name, check, item, may_override=True)
            findings.append(finding)
        for name, check in self.always.items():
            item, finding = self._run(name, check, item, may_override=False)
            findings.append(finding)
        item[self.key].meta[GUARDS] = json.dumps([finding.as_dict() for finding in findings])
        return item

    def _run(self, name: str, check: Check, item: Any, *, may_override: bool) -> tuple[dict[Hashable, Any], Finding]:
        with collected_warnings(issued=True) as messages:
            try:
                item = dict(check(item))
            except ImpossibleError:
                raise
            except ValueError as error:
                if not may_override:
                    raise
                if self.mode == REFUSE:
                    raise ValueError(f"{error} (`--guards warn` translates it nevertheless.)") from None
                logger.warning(f"{error} (Translated nevertheless, as `--guards warn` says.)")
                return item, Finding(name, OVERRIDDEN, evidence=str(error))
        verdict = WARNED if messages else PASSED
        return item, Finding(name, verdict, evidence=" ".join(messages) or None)


def doubts_of(image: Any) -> list[str]:
    """Return what the reader of an image found doubtful in its header."""
    text = getattr(image, "meta", {}).get(DOUBTS)
    text = text[0] if isinstance(text, (list, tuple)) else text
    found: list[str] = json.loads(text) if text else []
    return found


def noted(image: Any) -> list[dict[str, Any]]:
    """Return the findings that `Guards` noted in an image's meta data; an empty list if there are none."""
    text = getattr(image, "meta", {}).get(GUARDS)
    text = text[0] if isinstance(text, (list, tuple)) else text
    found: list[dict[str, Any]] = json.loads(text) if text else []
    return found
