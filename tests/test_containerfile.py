"""What the Containerfile promises; `make test-container` builds it and runs what it makes."""

from __future__ import annotations

import re

import pytest

from common import __version__
from tests.helpers.bundles import ROOT

STAGES = re.split(r"^(?=FROM )", (ROOT / "Containerfile").read_text().replace("\\\n", " "), flags=re.MULTILINE)[1:]
FETCHES = re.compile(r"https?:|\b(curl|wget|git clone|pip download)\b|^ADD ", re.MULTILINE)


def stage(name: str) -> str:
    (found,) = (text for text in STAGES if text.splitlines()[0].endswith(f" AS {name}"))
    return found


def parent(text: str) -> str:
    return text.split()[1]


@pytest.mark.parametrize("name", ["service", "label"])
def test_a_container_runs_as_a_user_without_rights_and_says_what_it_is_for(name):
    final = stage(name)
    assert re.search(r"^USER translation$", final, re.MULTILINE)
    assert final.rindex("USER ") > final.rindex("COPY ")
    assert "useradd --system --uid 10001" in stage("python")
    assert parent(final) == "runtime"
    label = re.search(r'image\.description="([^"]*)"', stage("runtime"))
    assert label
    assert "RESEARCH USE ONLY, not for diagnosis" in label[1]


@pytest.mark.parametrize("name", ["service", "label"])
def test_python_comes_from_the_wheels_alone_and_nothing_is_fetched_at_run_time(name):
    packages = stage(f"{name}-packages")
    assert f"COPY ${{WHEELS}}/{name} /wheels" in packages
    assert "--find-links /wheels" in packages
    assert "PIP_NO_INDEX=1" in stage(parent(packages))
    assert "PIP_NO_INDEX=1" in stage("runtime")
    assert not any(FETCHES.search(text) for text in STAGES)
    for text in (stage("runtime"), stage(name)):
        assert "apt-get" not in text
        assert "pip install" not in text
    started = " ".join(re.findall(r"^(?:ENTRYPOINT|CMD) .*$", stage(name), re.MULTILINE))
    assert "sh" not in re.findall(r'"([^"]*)"', started)


def test_the_label_server_listens_on_the_loopback_and_the_service_as_its_rules_say():
    assert '"--host", "127.0.0.1"' in stage("label")
    assert 'CMD ["run", "/data/rules.yaml"]' in stage("service")


def test_only_bundles_wheels_and_one_file_reach_the_build():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    shim = "environments/torchvision_shim/sitecustomize.py"
    assert {line[1:] for line in lines if line.startswith("!")} == {"bundles", shim, "build/container/wheels"}


def test_the_folder_of_a_map_has_the_versions_of_the_project():
    said = (ROOT / "deploy" / "map" / "app.yaml").read_text()
    assert re.search(r"^  version: (.*)$", said, re.MULTILINE)[1] == __version__
    pins = (ROOT / "deploy" / "map" / "requirements.txt").read_text().lower().splitlines()
    tested = (ROOT / "constraints.txt").read_text().lower().splitlines()
    names = {line.split("==")[0] for line in tested}
    assert [line for line in pins if line.split("==")[0] in names and line not in tested] == []
    assert {"torch==2.13.0", "holoscan-cu13==4.2.0", "holoscan-cli==4.2.0"} <= set(pins)
