"""
Calls `monai.bundle.load` as its users do, from several directories, in a process of its own.

    python load_network.py BUNDLE BUNDLES_DIR DIRECTORY ...

Its last line is JSON: by directory and workflow (`default`, `inference`), how many tensors of model.pt the network
holds, of how many in the file and in the network; or the words of each error in the chain.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def loaded(name: str, bundle_dir: str, workflow: dict[str, str]) -> list[int] | str:
    import torch
    from monai.bundle import load

    try:
        network = load(name, bundle_dir=bundle_dir, source="github", device="cpu", **workflow)
    except Exception as error:
        chain: list[str] = []
        link: BaseException | None = error
        while link is not None:
            chain.append(f"{type(link).__name__}: {link}")
            link = link.__cause__ or link.__context__
        return " <- ".join(chain)
    shipped = torch.load(Path(bundle_dir, name, "models", "model.pt"), map_location="cpu", weights_only=True)
    held = network.state_dict()
    equal = sum(key in held and torch.equal(held[key], value) for key, value in shipped.items())
    return [equal, len(shipped), len(held)]


def main(name: str, bundle_dir: str, *folders: str) -> None:
    found: dict[str, Any] = {}
    for folder in folders:
        os.chdir(folder)
        for workflow in ("default", "inference"):
            options = {} if workflow == "default" else {"workflow_type": workflow}
            found[f"{folder} {workflow}"] = loaded(name, bundle_dir, options)
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
