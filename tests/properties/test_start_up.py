"""What the command line imports before it has to compute anything, by the names of the modules."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

from common.__main__ import uncollected_imports

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "bundles" / "golden"
HEAVY = ("torch", "monai", "numpy", "scipy", "nibabel", "skimage", "matplotlib", "ignite", "pydicom")
# What MONAI does not import either, and no translation needs: PyTorch's compiler alone takes two seconds.
UNUSED = (
    *("torch._dynamo", "torch._inductor", "torchvision", "torch.onnx", "pandas", "sklearn", "cv2", "openvino"),
    *("onnx", "onnxruntime", "mlflow", "highdicom", "SimpleITK", "IPython"),
    *("common.reports", "common.phantoms", "common.methods", "common.losses", "common.leaderboard", "common.finetune"),
)
TRANSLATIONS = {
    "ggcl": ["--source", "B30f", "--target", "B70f"],
    "kcgan_kernel_conversion": ["--source", "B70f", "--target", "B30f"],
    "nec_t1t2": [],
    "nect2cect": [],
    "sr_cyclegan": ["--region", "all", "--slab", "[0, 2]"],
}
PROGRAM = """
import json, sys
from common.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["common", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
print(json.dumps(sorted(sys.modules)))
"""


def imported(*commands: list[str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_imports_nothing_that_computes():
    """PyTorch and MONAI take seconds, of which the help needs nothing."""
    found = imported(["--help"], ["phantom", "--help"], ["leaderboard", "--help"])
    assert "fire" in found
    assert not found & set(HEAVY)


def test_garbage_is_sought_again_after_the_imports():
    with uncollected_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.unfreeze()


def test_the_search_finds_what_a_command_imports(tmp_path):
    command = ["datalist", str(tmp_path), "--rule", "{patient}_{domain}.nii.gz", "--dry_run"]
    program = PROGRAM.replace("assert not end.code", "assert True")  # there are no images
    done = subprocess.run([sys.executable, "-c", program, json.dumps([command])], capture_output=True, text=True)
    assert {"torch", "numpy"} <= set(json.loads(done.stdout.splitlines()[-1]))


def test_a_translation_imports_no_compiler_and_nothing_that_trains_or_reports(tmp_path):
    commands = [
        ["translate", str(GOLDEN / f"{bundle}_source.nii.gz"), "--bundle", str(ROOT / "bundles" / bundle)]
        + ["--output_dir", str(tmp_path / bundle), "--device", "cpu", *options]
        for bundle, options in TRANSLATIONS.items()
    ]
    found = imported(*commands)
    assert {"torch", "monai.bundle", "common.inference.slabs", "common.networks.bicubic"} <= found
    assert not found & set(UNUSED)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(TRANSLATIONS)
