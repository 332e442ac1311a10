"""The sidecar, a JSON file beside each output: how it was made, from what, and the findings of the checks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..bundles import metadata_path, read_metadata
from ..files import checksum
from ..images.names import target_name
from ..networks.definition import changed_by_hand
from ..run_facts import run_facts
from ..transforms.guards.findings import PASSED, WARNED, Finding
from ..uncertainty import Uncertainty
from .inferers import weight_facts

NOTICE = "RESEARCH USE ONLY, not for diagnosis: a synthetic image."
UNKNOWN = "unknown"


class RunRecord:
    """The provenance record of an inference run: the facts that all its outputs share, gathered when first used.

    Args:
        bundle_root: Folder of the bundle, whose `configs/metadata.json` holds the version.
        models_dir: Folder of `model.pt`, of which the checksum is recorded.
        network: Network whose class is recorded, or that of the inner network to which it binds a target.
        target: Target domain, or the weights of a blend by domain.
        guards: Mode of the input checks.
        choices: Choices of the user, beside the target, that change an output; for JSON.
        uncertainty: Whether a map of the half-widths is written beside each output.

    Raises:
        FileNotFoundError: If `uncertainty` is wanted, but was not calibrated.
        ValueError: If it was calibrated for other weights.

    Attributes:
        bundle: Name of the bundle's folder.
        target: Target as given.
        decided: Further facts that are added after the run has begun (`SetPrecision`).
        published: Paths of each output so far: files and folders, the sidecar last.
    """

    def __init__(
        self,
        bundle_root: str | Path,
        models_dir: str | Path,
        *,
        network: nn.Module,
        target: str | Mapping[str, float],
        guards: str | bool,
        choices: Mapping[str, Any] | None = None,
        uncertainty: bool = False,
    ) -> None:
        self.root, self.models_dir = Path(bundle_root), Path(models_dir)
        self.bundle, self.target, self.guards = self.root.resolve().name, target, guards or "off"
        self.choices = {**(choices or {}), **({"uncertainty": True} if uncertainty else {})}
        self.uncertainty = Uncertainty(self.models_dir) if uncertainty else None
        self.network = type(getattr(network, "network", network)).__name__
        self.decided: dict[str, Any] = {}
        self.published: list[list[Path]] = []
        self._weights: str | None = None
        self._changed: list[str] | None = None

    @property
    def version(self) -> str:
        """Version in the bundle's metadata, or `unknown`."""
        return str(read_metadata(self.root)["version"]) if metadata_path(self.root).is_file() else UNKNOWN

    @property
    def weights_sha256(self) -> str:
        """Checksum of `model.pt`, or `unknown` if there is no such file."""
        if self._weights is None:
            self._weights = weight_facts(self.models_dir).get("weights_sha256", UNKNOWN)
        return self._weights

    def identity(self) -> dict[str, Any]:
        """Return the facts that must be equal for outputs to be the same, for JSON."""
        return {
            "bundle": self.bundle,
            "version": self.version,
            "target": target_name(self.target),
            "choices": self.choices,
            "network": self.network,
            "weights_sha256": self.weights_sha256,
        }

    def facts(self) -> dict[str, Any]:
        """Return all facts, for JSON."""
        edited = {"changed_by_hand": self.changed} if self.changed else {}
        return {"notice": NOTICE, **self.identity(), **edited, **self.decided, "run": run_facts(bundle_root=self.root)}

    @property
    def changed(self) -> list[str]:
        """What of the network's files is not as it was written, see `changed_by_hand`."""
        if self._changed is None:
            self._changed = changed_by_hand(self.models_dir)
        return self._changed


def sidecar(
    record: RunRecord,
    *,
    sources: Sequence[str],
    outputs: Sequence[Path],
    guards: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
    **more: Any,
) -> dict[str, Any]:
    """Return the content of the sidecar of one output.

    Args:
        record: Provenance record of this run.
        sources: Paths of the files that were translated.
        outputs: Paths of the outputs, NIfTI files and folders of DICOM files.
        guards: Findings of the input's checks, as noted in its meta data.
        findings: Findings of the output's checks.
        more: Further facts, such as `clipped_voxels`.
    """
    checks = [finding.as_dict() for finding in findings]
    passed = all(check["verdict"] == PASSED for check in (*guards, *checks)) and not record.changed
    return {
        **record.facts(),
        "verdict": PASSED if passed else WARNED,
        "source": list(sources),
        "output": [described(path) for path in outputs],
        "guards": {"mode": record.guards, "checks": list(guards)},
        "output_checks": checks,
        **more,
    }


def doubted(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what checks doubted, in words.

    Args:
        checks: Findings as the sidecar holds them, see `Finding.as_dict`.

    Example:
        >>> doubted([{"check": "air", "verdict": "passed"}, {"check": "agent", "verdict": "warned", "evidence": "It."}])
        ['agent: It.']
    """
    return [f"{check['check']}: {_words(check)}" for check in checks if check["verdict"] != PASSED]


def _words(check: Mapping[str, Any]) -> str:
    if check.get("evidence"):
        return str(check["evidence"])
    limit = f", allowed is {check['limit']}" if "limit" in check else ""
    return f"{check['verdict']}, measured {check.get('value')}{limit}."


def described(path: Path) -> dict[str, Any]:
    """Return name and checksum of an output; a folder's checksum is that of its files' checksums and names, sorted."""
    if path.is_dir():
        lines = [f"{checksum(file)}  {file.name}\n" for file in sorted(path.iterdir())]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        return {"folder": path.name, "files": len(lines), "sha256": digest}
    return {"file": path.name, "sha256": checksum(path)}
