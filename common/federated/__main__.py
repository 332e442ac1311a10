"""`python -m common.federated job`, which writes a job for NVIDIA FLARE, and `allow`, with which a site permits it."""

from __future__ import annotations

import sys

import fire

from ..errors import EXPECTED
from .job import allow_classes, write_job


def main() -> None:
    """Run the command line; an expected error ends in one line."""
    try:
        fire.Fire({"job": write_job, "allow": allow_classes}, name="python -m common.federated")
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
