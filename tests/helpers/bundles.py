"""The NEC bundle at a size that trains in seconds, run as users run it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .commands import ROOT, python_m

BUNDLE = ROOT / "bundles" / "nec_t1t2"
CONFIGS = BUNDLE / "configs"

TINY = """
max_epochs: 1
batch_size: 2
image_size: 64
val_interval: 1
network_def: {_target_: common.networks.CompactGenerator, channels: [8, 8], num_res_units: 1}
discriminator_def#num_scales: 1
discriminator_def#num_layers: 2
discriminator_def#channels: 4
"""


def bundle(run_id: str, files: list[str | Path], *options: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """`python -m monai.bundle run`, with config names of the bundle or paths, from another working directory."""
    return run(BUNDLE, run_id, files, *options, cwd=cwd)


def run(
    bundle_root: Path, run_id: str, files: list[str | Path], *options: object, cwd: Path
) -> subprocess.CompletedProcess:
    """The same for any bundle."""
    paths = [str(file if isinstance(file, Path) else bundle_root / "configs" / f"{file}.yaml") for file in files]
    options = ("--config_file", paths, "--bundle_root", bundle_root, *options)
    return python_m("monai.bundle", ["run", *([run_id] if run_id else []), *options], cwd=cwd)


def done(process: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert process.returncode == 0, process.stdout[-1000:] + process.stderr[-4000:]
    return process
