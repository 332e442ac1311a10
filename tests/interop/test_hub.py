"""Push to and download from a hub on 127.0.0.1, by the commands of docs/hub.md: a dry run of publishing."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .hub import TOKEN, Hub, local_hub
from .in_release import call_in, command, documented

pytestmark = pytest.mark.interop

NAME, REPOSITORY, VERSION = "ggcl", "OWNER/ggcl", "0.1.0"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with local_hub() as running:
        yield running


@pytest.fixture(scope="module")
def workplace(hub: Hub, unpacked: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pushed bundle, and its two downloads in BUNDLES and VERSIONS."""
    folder = tmp_path_factory.mktemp("hub")
    shutil.copytree(unpacked[NAME], folder / NAME)
    lines = documented("hub")
    verbs = [re.search(r"monai\.bundle (\w+)", line).group(1) for line in lines]
    assert verbs == ["push_to_hf_hub", "download", "download"]
    for line in lines:
        done = run(line, hub, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    return folder


def run(line, hub, folder, token=TOKEN):
    own = {"HF_HOME": str(folder / "cache"), "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    return command(folder, shlex.split(line)[1:], **own)


def files(folder: Path) -> dict[str, bytes]:
    """By path, without what the client of the hub keeps for itself."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.startswith(".cache")}


def test_what_is_pushed_is_the_release_and_its_model_card(hub, workplace, unpacked):
    repository = hub.repositories[REPOSITORY]
    pushed = dict(repository.commits[repository.branches["main"]])
    card = pushed.pop("README.md").decode()
    assert "library_name: monai" in card
    assert "license: apache-2.0" in card
    assert "Research use only" in card
    assert pushed == files(unpacked[NAME])


def test_the_version_and_the_latest_are_tagged(hub, workplace):
    repository = hub.repositories[REPOSITORY]
    assert repository.tags == dict.fromkeys((VERSION, "latest_version"), repository.branches["main"])


@pytest.mark.parametrize("folder", ["BUNDLES", "VERSIONS"])
def test_what_is_downloaded_is_what_was_pushed(folder, workplace):
    assert files(workplace / folder / NAME) == files(workplace / NAME)


def test_the_downloaded_bundles_network_loads_its_weights_and_runs(workplace):
    network = {"net_id": "network_def", "meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}
    calls = [
        ("verify_net_in_out", {**network, "device": "cpu"}),
        ("ckpt_export", {**network, "filepath": "../downloaded.ts", "ckpt_file": "models/model.pt"}),
    ]
    assert call_in(workplace / "BUNDLES" / NAME, calls) == [None, None]


def test_a_push_without_the_right_to_write_is_refused(hub, workplace):
    before = dict(hub.repositories[REPOSITORY].commits)
    (push, *_) = documented("hub")
    done = run(push, hub, workplace, token="another")
    assert done.returncode != 0
    assert "401" in done.stderr
    assert hub.repositories[REPOSITORY].commits == before
