"""A calibration of a few numbers, whose half-widths are known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

NOVELTY = {
    "mean": [0.0] * 5,
    "sd": [100.0] * 5,
    "bank": [[0.0] * 5],
    "middle": [0.0] * 8,
    "spread": [1.0] * 8,
    "scores": [1.0] * 19,
    "limit": 2.0,
}


def document(models: Path, **changes: object) -> Path:
    """Weights of a few bytes, and a calibration: half-widths are 20 where the smoothed source is below 0, else 60."""
    models.mkdir(parents=True, exist_ok=True)
    (models / "model.pt").write_bytes(b"weights")
    scale = {"kind": "strata", "features": [0, 1], "edges": [[0.0], []], "values": [[10.0], [30.0]]}
    content = {
        "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
        "unit": "HU",
        "hu": True,
        "promise": {"coverage": 0.9, "confidence": 0.9, "novelty": 0.05},
        "data": {"description": "digital phantoms (test)"},
        "gate": {"passed": False},
        "directions": {"NECT->CECT": {"scale": scale, "factors": {"patients": 2.0, "voxels": 1.0}, "novelty": NOVELTY}},
    }
    (models / "uncertainty.json").write_text(json.dumps({**content, **changes}))
    return models
