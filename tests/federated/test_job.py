"""The job's files, the sites' paths and the list of allowed classes; FLARE itself runs in tests/interop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.federated import allow_classes, site_path, write_job

BUNDLES = Path(__file__).parents[2] / "bundles"


def written(folder: Path, which: str) -> dict:
    return json.loads((folder / "app" / "config" / f"config_fed_{which}.json").read_text())


def component(config: dict, id_: str) -> dict:
    (found,) = [part for part in config["components"] + config.get("workflows", []) if part["id"] == id_]
    return found


def test_a_job_names_the_network_that_its_configuration_builds(tmp_path):
    job = write_job(tmp_path / "job", BUNDLES / "ggcl", overlays=[], train_options={"channels": 8, "num_res_blocks": 1})
    model = component(written(job, "server"), "persistor")["args"]["model"]
    assert model["path"] == "common.networks.StarGANGenerator"
    assert (model["args"]["channels"], model["args"]["num_res_blocks"], model["args"]["num_domains"]) == (8, 1, 3)


def test_an_overlay_changes_the_network(tmp_path):
    job = write_job(tmp_path, BUNDLES / "nect2cect", overlays=["configs/train_classifier.yaml"], evaluate=False)
    assert component(written(job, "server"), "persistor")["args"]["model"]["path"] == "common.networks.VGG16BN"
    site = component(written(job, "client"), "site")["args"]
    assert (site["overlays"], site["evaluate"]) == (["configs/train_classifier.yaml"], False)


def test_the_schedule_is_as_long_as_all_rounds_together(tmp_path):
    job = write_job(tmp_path, BUNDLES / "ggcl", rounds=5, local_epochs=3, sites=4)
    site = component(written(job, "client"), "site")["args"]
    averaging = component(written(job, "server"), "averaging")["args"]
    assert (site["max_epochs"], site["local_epochs"]) == (15, 3)
    assert (averaging["num_rounds"], averaging["min_clients"]) == (5, 4)
    assert json.loads((job / "meta.json").read_text())["min_clients"] == 4


def test_a_job_holds_json_alone(tmp_path):
    write_job(tmp_path / "job", BUNDLES / "ggcl", initial_weights="/server/model.pt")
    names = {str(p.relative_to(tmp_path / "job")) for p in (tmp_path / "job").rglob("*") if p.is_file()}
    assert names == {"meta.json", "app/config/config_fed_server.json", "app/config/config_fed_client.json"}
    persistor = component(written(tmp_path / "job", "server"), "persistor")["args"]
    assert persistor["source_ckpt_file_full_name"] == "/server/model.pt"


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"sites": "two"}, {"local_epochs": -1}])
def test_counts_must_be_positive(wrong, tmp_path):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number >= 1"):
        write_job(tmp_path, BUNDLES / "ggcl", **wrong)


def test_one_overlay_is_still_a_list(tmp_path):
    with pytest.raises(ValueError, match="`overlays` must be a list such as"):
        write_job(tmp_path, BUNDLES / "ggcl", overlays="configs/demo.yaml")


def test_a_sites_paths_take_its_name_and_its_environment(monkeypatch):
    monkeypatch.setenv("FEDERATED_DIR", "/hospital")
    assert site_path("$FEDERATED_DIR/$SITE/data", site="north") == "/hospital/north/data"
    assert site_path("$APP_ROOT/output", site="north", app_root="/job") == "/job/output"


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("FEDERATED_DIR", raising=False)
    with pytest.raises(ValueError, match="needs the environment variable 'FEDERATED_DIR', which is not set on 'north'"):
        site_path("$FEDERATED_DIR/data", site="north")


@pytest.mark.parametrize("site", ["../north", "a/b", "", ".."])
def test_a_sites_name_is_no_path(site):
    with pytest.raises(ValueError, match="`site` must be a name that a folder can have"):
        site_path("/data/$SITE", site=site)


def test_allowing_a_job_adds_its_classes_and_keeps_the_sites_policy(tmp_path):
    job = write_job(tmp_path / "job", BUNDLES / "ggcl")
    local = tmp_path / "local"
    local.mkdir()
    policy = {"format_version": 2, "class_list_enforcement_mode": "enforce", "class_allow_list": ["a.B"], "client": {}}
    (local / "resources.json.default").write_text(json.dumps(policy))
    added = allow_classes(job, local)
    assert {"common.federated.SiteAlgo", "common.networks.PhysicsGenerator"} < set(added)
    assert all(name.split(".")[0] in ("common", "nvflare", "monai_nvflare") for name in added)
    assert json.loads((local / "resources.json").read_text()) == {**policy, "class_allow_list": ["a.B", *added]}
    assert allow_classes(job, local) == []


def test_allowing_needs_a_job_and_a_list(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a folder of a job"):
        allow_classes(tmp_path, tmp_path / "local")
    job = write_job(tmp_path / "job", BUNDLES / "ggcl")
    (tmp_path / "resources.json").write_text('{"class_allow_list": "*"}')
    with pytest.raises(ValueError, match=r"must be a list of class names, got '\*'"):
        allow_classes(job, tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "subprocess.Popen",
        "nvflare.app_common.launchers.subprocess_launcher.SubprocessLauncher",
        "common.networks.definition.os.system",
        "common.networks.os.system",
        "common.federated.SiteAlgo.initialize",
    ],
)
def test_allowing_a_job_adds_no_class_that_a_written_job_does_not_name(path, tmp_path):
    job = write_job(tmp_path / "job", BUNDLES / "ggcl")
    file = job / "app" / "config" / "config_fed_client.json"
    config = json.loads(file.read_text())
    config["components"].append({"id": "more", "path": path, "args": {}})
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="must name the classes of a job of `write_job` only, got") as error:
        allow_classes(job, tmp_path / "local")
    assert path in str(error.value)
    assert not (tmp_path / "local").exists()


def test_a_job_with_a_setting_that_sites_refuse_is_not_written(tmp_path):
    for options in ({"network_def": {"_target_": "common.networks.CompactGenerator"}}, {"batchsize": 2}):
        with pytest.raises(ValueError, match="`train_options` may set what this site's policy lists"):
            write_job(tmp_path / "job", BUNDLES / "ggcl", train_options=options)
    with pytest.raises(ValueError, match="`channels` of `train_options` must be a whole number, as 64 in the bundle"):
        write_job(tmp_path / "job", BUNDLES / "ggcl", train_options={"channels": 8.5})
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("bundle", ["ggcl", "kcgan_kernel_conversion"])
def test_a_kernel_bundles_job_trains_the_kind_of_network_that_is_shipped(bundle, tmp_path):
    shipped = json.loads((BUNDLES / bundle / "models" / "network.json").read_text())["class"]
    for overlays, path in ((None, shipped), ([], "common.networks.StarGANGenerator")):
        job = write_job(tmp_path / str(overlays), BUNDLES / bundle, overlays=overlays)
        server = (job / "app" / "config" / "config_fed_server.json").read_text()
        client = json.loads((job / "app" / "config" / "config_fed_client.json").read_text())
        assert f'"{path}"' in server
        assert ("configs/physics.yaml" in json.dumps(client)) is (overlays is None)
