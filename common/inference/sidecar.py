"""The JSON file beside an output: what made it, from what, and what the checks found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..bundles import metadata_path, read_metadata
from ..files import checksum
from ..images.names import target_name
from ..run_facts import run_facts
from ..transforms.guards.findings import PASSED, WARNED, Finding
from .inferers import weight_facts

NOTICE = "RESEARCH USE ONLY, not for diagnosis: a synthetic image."
UNKNOWN = "unknown"


class RunRecord:
    """
    The facts of an inference that are the same for all its outputs; they are gathered when first asked for.

    Args:
        bundle_root: the bundle's folder; its `configs/metadata.json` tells the version.
        models_dir: its `model.pt` is checksummed.
        network: its class is noted, or that of the network to which it binds a target.
        target: a domain, or the weights of a blend.
        guards: the mode of the input checks.
        choices: of the user, beside the target, that make an output another one; for JSON.

    Attributes:
        bundle: the folder's name.
        target: as given.
        decided: further facts, filled in when the run has begun (`SetPrecision`).
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
    ) -> None:
        self.root, self.models_dir = Path(bundle_root), Path(models_dir)
        self.bundle, self.target, self.guards = self.root.resolve().name, target, guards or "off"
        self.choices = dict(choices or {})
        self.network = type(getattr(network, "network", network)).__name__
        self.decided: dict[str, Any] = {}
        self._weights: str | None = None

    @property
    def version(self) -> str:
        """Of the bundle's metadata, or `unknown`."""
        return str(read_metadata(self.root)["version"]) if metadata_path(self.root).is_file() else UNKNOWN

    @property
    def weights_sha256(self) -> str:
        """Of `model.pt`, or `unknown` where there is none."""
        if self._weights is None:
            self._weights = weight_facts(self.models_dir).get("weights_sha256", UNKNOWN)
        return self._weights

    def identity(self) -> dict[str, Any]:
        """For JSON: what must be equal for an output to be the same."""
        return {
            "bundle": self.bundle,
            "version": self.version,
            "target": target_name(self.target),
            "choices": self.choices,
            "network": self.network,
            "weights_sha256": self.weights_sha256,
        }

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {"notice": NOTICE, **self.identity(), **self.decided, "run": run_facts(bundle_root=self.root)}


def sidecar(
    record: RunRecord,
    *,
    sources: Sequence[str],
    outputs: Sequence[Path],
    guards: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
    **more: Any,
) -> dict[str, Any]:
    """
    What the sidecar of one output says.

    Args:
        record: of the run.
        sources: the files that were translated.
        outputs: what was written, NIfTI files and folders of DICOM files.
        guards: findings of the input's checks, as they are noted in its meta data.
        findings: those of the output's.
        more: further facts, such as `clipped_voxels`.
    """
    checks = [finding.as_dict() for finding in findings]
    passed = all(check["verdict"] == PASSED for check in (*guards, *checks))
    return {
        **record.facts(),
        "verdict": PASSED if passed else WARNED,
        "source": list(sources),
        "output": [described(path) for path in outputs],
        "guards": {"mode": record.guards, "checks": list(guards)},
        "output_checks": checks,
        **more,
    }


def described(path: Path) -> dict[str, Any]:
    """Name and checksum of an output; that of a folder is of its files' names and checksums, in order."""
    if path.is_dir():
        lines = [f"{checksum(file)}  {file.name}\n" for file in sorted(path.iterdir())]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        return {"folder": path.name, "files": len(lines), "sha256": digest}
    return {"file": path.name, "sha256": checksum(path)}
