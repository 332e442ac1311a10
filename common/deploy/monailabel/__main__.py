"""Create the folder of a MONAI Label app with copies of bundles: `python -m common.deploy.monailabel APP BUNDLE...`."""

from __future__ import annotations

import sys

from ...errors import EXPECTED
from .bundles import make_app


def main(arguments: list[str]) -> None:
    """Run the command line; an expected error ends in one line."""
    if not arguments or arguments[0] in ("-h", "--help"):
        raise SystemExit(__doc__)
    try:
        app = make_app(*arguments)
    except EXPECTED as error:
        raise SystemExit(f"error: {error}") from None
    print(f"App: {app}\nServe it: monailabel start_server --app {app} --studies IMAGES --host 127.0.0.1")


if __name__ == "__main__":
    main(sys.argv[1:])
