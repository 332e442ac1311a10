"""`python -m common.deploy.monailabel APP BUNDLE...`: the folder of an app for MONAI Label, with copies of bundles."""

from __future__ import annotations

import sys

from ...errors import EXPECTED
from .bundles import make_app


def main(arguments: list[str]) -> None:
    """The command line; an error that we expect ends in one line."""
    if not arguments or arguments[0] in ("-h", "--help"):
        raise SystemExit(__doc__)
    try:
        app = make_app(*arguments)
    except EXPECTED as error:
        raise SystemExit(f"error: {error}") from None
    print(f"App: {app}\nServe it: monailabel start_server --app {app} --studies IMAGES --host 127.0.0.1")


if __name__ == "__main__":
    main(sys.argv[1:])
