"""Translate a DICOM series by a bundle, as an application of MONAI Deploy. RESEARCH USE ONLY, not for diagnosis.

python -m common.deploy.monai_deploy -i DICOM_FOLDER -o OUT -m BUNDLE_FOLDER [--target B70f] [--series TEXT]
  [--set region=all] [-l INFO]
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import yaml

from ...errors import own_error


def main() -> None:
    """Run the command line; an error that the user can correct ends in its message and exit status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m common.deploy.monai_deploy",
        description="Translate a DICOM series by a bundle. RESEARCH USE ONLY.",
        epilog="-l, -w and -t are the SDK's: level of logging, working folder, Triton server.",
    )
    parser.add_argument("-i", "--input", help="folder of DICOM files (default: $HOLOSCAN_INPUT_PATH)")
    parser.add_argument("-o", "--output", help="folder of the derived series (default: $HOLOSCAN_OUTPUT_PATH)")
    parser.add_argument("-m", "--model", help="folder of the bundle (default: $HOLOSCAN_MODEL_PATH)")
    parser.add_argument(
        "--target",
        type=yaml.safe_load,
        default=os.environ.get("TRANSLATION_TARGET"),
        help="what to make, such as B70f (default: $TRANSLATION_TARGET, else the bundle's)",
    )
    parser.add_argument("--series", help="part of the SeriesDescription, or SeriesInstanceUID, of the source")
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID=VALUE", help="another value of the bundle's inference.yaml"
    )
    options, rest = parser.parse_known_args()
    for name in ("input", "output", "model"):
        if getattr(options, name) is not None:
            rest += [f"--{name}", getattr(options, name)]
    from .app import TranslationApp

    app = TranslationApp(
        target=options.target,
        series=options.series,
        overrides=_overrides(parser, options.set),
        argv=[sys.executable, sys.argv[0], *rest],
    )
    try:
        app.run()
    except Exception as error:
        if (ours := own_error(error)) is None:
            raise
        sys.exit(f"\nerror: {ours}")


def _overrides(parser: argparse.ArgumentParser, settings: list[str]) -> dict[str, Any]:
    pairs = [setting.partition("=") for setting in settings]
    for setting, (name, equals, _) in zip(settings, pairs):
        if not name or not equals:
            parser.error(f"--set takes ID=VALUE, such as region=all, got {setting!r}")
    return {name: yaml.safe_load(value) for name, _, value in pairs}


if __name__ == "__main__":
    main()
