"""A leaderboard of one epoch on a tiny phantom: done once, not again, and with the same budget for all."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from common import preflight
from common.leaderboard import RunFailedError, find_board, find_boards, run_leaderboard
from common.leaderboard.boards import ROOT, pair_of
from common.leaderboard.budget import forward_flop, schedule, training_seconds
from common.leaderboard.page import second_table
from common.leaderboard.results import add_runs, read_results, shared_run
from common.phantoms import generate_phantom

TINY = """
max_epochs: 1
batch_size: 2
image_size: 64
spacing_mm: [4.0, 4.0, -1]
network_def: {_target_: common.networks.CompactGenerator, channels: [8], num_res_units: 0}
discriminator_def#num_scales: 1
discriminator_def#num_layers: 2
discriminator_def#channels: 4
"""
SETTING = {"bundle": "ggcl", "budget": 8}


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> dict:
    """What one leaderboard of one method leaves behind, and its arguments."""
    folder = tmp_path_factory.mktemp("leaderboard")
    generate_phantom("brain", folder / "data", patients=6, slices=2, size=64)
    (folder / "tiny.yaml").write_text(TINY)
    places = {"data": folder / "data", "output_dir": folder / "runs", "result": folder / "nec_t1t2.json"}
    arguments = {"methods": ["nec"], "budget": 4, "seeds": [0], "overlay": str(folder / "tiny.yaml"), **places}
    path = run_leaderboard("nec_t1t2", **arguments)
    return {"arguments": arguments, "content": json.loads(path.read_text()), "path": path}


def test_a_run_is_scored_on_the_held_out_patients_beside_the_baselines(board):
    datalist = json.loads((board["arguments"]["data"] / "datalist.json").read_text())
    patients = {entry["patient"] for entry in datalist["test"]}
    (run,) = board["content"]["runs"]
    assert {row["patient"] for row in run["rows"]} == patients
    assert {row["method"] for row in run["rows"]} == {"network"}
    assert {row["patient"] for row in board["content"]["baselines"]} == patients
    assert {"identity", "intensity_curve"} <= {row["method"] for row in board["content"]["baselines"]}
    assert board["content"]["commands"] == [
        "python -m common leaderboard --bundle nec_t1t2 --budget 4 --seeds 0, --methods nec --overlay tiny"
    ]


def test_the_cost_is_what_the_training_left_behind(board):
    cost = board["content"]["runs"][0]["cost"]
    assert (cost["generator_images"], cost["generator_updates"], cost["discriminator_updates"]) == (4, 2, 2)
    assert cost["parameters_trained"] > cost["parameters"] > 0
    assert cost["gflop"] > 0
    assert cost["peak_memory_mb"] > 50
    assert cost["seconds_per_update"] == pytest.approx(cost["seconds"] / 2)


def test_a_run_that_is_done_is_not_run_again(board, monkeypatch, tmp_path):
    monkeypatch.setattr("common.leaderboard.run.run_child", lambda *_, **__: pytest.fail("a process was started"))
    again = run_leaderboard("nec_t1t2", **board["arguments"])
    assert json.loads(again.read_text())["runs"] == board["content"]["runs"]
    elsewhere = run_leaderboard("nec_t1t2", **board["arguments"] | {"result": tmp_path / "other.json"})
    assert json.loads(elsewhere.read_text())["runs"] == board["content"]["runs"]


def test_results_of_another_budget_are_refused(board, tmp_path):
    with pytest.raises(ValueError, match="results of another setting"):
        run_leaderboard("nec_t1t2", **board["arguments"] | {"budget": 6})
    with pytest.raises(ValueError, match="a run of another setting"):
        run_leaderboard("nec_t1t2", **board["arguments"] | {"budget": 6, "result": tmp_path / "other.json"})


def test_a_process_that_fails_is_told_by_its_first_error_and_its_log(board, tmp_path, monkeypatch):
    """Its last error is MONAI's, which says only that an expression failed."""
    program = tmp_path / "fails"
    program.write_text("#!/bin/sh\necho 'ValueError: `lr` must be > 0.'\necho 'RuntimeError: Failed.'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    changes = {"output_dir": tmp_path / "runs", "result": tmp_path / "r.json"}
    with pytest.raises(RunFailedError, match=r"exit code 3: ValueError: `lr` must be > 0\. .*nec_0/tiny\.log"):
        run_leaderboard("nec_t1t2", **board["arguments"] | changes)
    assert not (tmp_path / "r.json").exists()


def test_wrong_arguments_name_the_right_ones():
    with pytest.raises(ValueError, match=r"`bundle` must be one of \['ggcl'"):
        run_leaderboard("heart")
    with pytest.raises(ValueError, match=r"`methods` of nec_t1t2 must be among nec, cut.*got 'cute'"):
        run_leaderboard("nec_t1t2", methods=["cute"])
    with pytest.raises(ValueError, match="`overlay` must be a file"):
        run_leaderboard("nec_t1t2", methods=["nec"], overlay="demonstration")
    with pytest.raises(ValueError, match="NAME:SOURCE:TARGET, got 'cut:B30f'"):
        pair_of("cut:B30f")


@pytest.mark.parametrize("bundle", find_boards())
def test_every_method_gets_the_same_number_of_generator_images(bundle):
    """Iterations are images over the batch, of which every n-th updates the generator (StarGAN and its kin: 5th)."""
    board = find_board(bundle)
    for method in board.methods():
        plan = schedule(board.files(method, board.overlay), board.budget)
        iterations = plan.epochs * (plan.samples_per_epoch // plan.batch_size)
        assert iterations // plan.critic_steps * plan.batch_size == board.budget, method
        assert plan.samples_per_epoch % plan.batch_size == 0


def test_what_two_bundles_share_lies_in_one_of_them():
    """Their methods are the same but for the own one, and so are the overlays, of which a bundle's own come first."""
    ggcl, kcgan = find_board("ggcl"), find_board("kcgan_kernel_conversion")
    assert kcgan.methods()[1:] == ggcl.methods()[1:]
    assert [path.parents[1] for path in kcgan.files("fastcut", "leaderboard")[1:3]] == [ggcl.configs] * 2
    train, physics, ggdr, overlay = kcgan.files("physics+ggdr", kcgan.overlay)
    assert {train.parent, physics.parent} == {kcgan.configs}
    assert (ggdr.parent.parent, overlay.parent) == (ggcl.configs, ggcl.configs)


def test_an_overlay_over_another_one_comes_behind_it():
    names = [path.stem for path in find_board("ggcl").files("fastcut+physics:B30f:B70f", "demo")]
    assert names == ["train", "cut", "fastcut", "physics", "demo"]


def test_a_method_that_needs_an_extra_is_trained_on_request_alone():
    board = find_board("nect2cect")
    assert "registered" not in board.methods()
    assert [path.name for path in board.files("registered", "demo")] == ["train.yaml", "registered.yaml", "demo.yaml"]
    assert board.title("registered") == "trained on registered pairs"
    with pytest.raises(ValueError, match=r"must be among .*registered"):
        board.files("unknown", None)


def test_compact_is_a_file_of_the_bundle_now(monkeypatch, tmp_path):
    """It stood for the overlay that a board declares, which is the default."""

    class StopError(Exception):
        pass

    def schedule(files: list[Path], *_: object, **__: object) -> None:
        raise StopError(files[-1].name)

    monkeypatch.setattr("common.leaderboard.run.schedule", schedule)
    with pytest.raises(StopError, match=r"leaderboard\.yaml"):
        run_leaderboard("ggcl", output_dir=tmp_path)
    with pytest.warns(FutureWarning, match=r"compact\.yaml"), pytest.raises(StopError, match=r"compact\.yaml"):
        run_leaderboard("ggcl", overlay="compact", output_dir=tmp_path)


def test_the_default_budget_is_the_demonstrations():
    """demo.yaml of the kernels: 12 epochs of 100 images, a fifth of them for the generator; of the lung: 30 of 80."""
    plan = schedule(find_board("ggcl").files("ggcl", "demo"), 240)
    assert (plan.epochs, plan.samples_per_epoch, plan.critic_steps) == (12, 100, 5)
    plan = schedule(find_board("sr_cyclegan").files("unit", "demo"), 2400)
    assert (plan.epochs, plan.samples_per_epoch, plan.critic_steps) == (30, 80, 1)


def test_a_budget_that_does_not_divide_is_refused_with_those_that_do():
    files = find_board("ggcl").files("ggcl", "demo")
    with pytest.raises(
        ValueError, match=r"multiple of 48 images \(12 epochs of batches of 4.*got 250: give 240 or 288"
    ):
        schedule(files, 250)
    with pytest.raises(ValueError, match="got 0: give 48"):
        schedule(files, 0)
    assert schedule(files, 252, epochs=1).samples_per_epoch == 5 * 252


def test_the_clock_of_a_resumed_training_is_added_up(tmp_path):
    """Two minutes, then a new process that starts at 0 and ends at 30 s."""
    path = tmp_path / "losses.csv"
    path.write_text("iteration,seconds\n10,60.0\n20,120.0\n30,15.5\n40,30.0\n")
    assert training_seconds(path) == 150.0


def test_operations_are_counted_as_by_hand():
    """A convolution of 3 x 3 from 2 to 4 channels: 2 * 9 * 2 * 4 for each of 16 x 16 pixels."""
    assert forward_flop(nn.Conv2d(2, 4, 3, padding=1), 2, 16) == 2 * 9 * 2 * 4 * 16 * 16
    assert not torch.is_inference_mode_enabled()


def test_runs_are_added_beside_others_and_instead_of_the_same(tmp_path):
    path = tmp_path / "r.json"
    row = {"patient": "a", "direction": "x->y", "method": "network", "psnr": 1.0}
    identity, back = {**row, "method": "identity"}, {**row, "method": "identity", "direction": "y->x"}

    def add(method: str, seed: int, psnr: float, *baselines: dict) -> None:
        run = {"method": method, "seed": seed, "rows": [{**row, "psnr": psnr}, *baselines]}
        add_runs(path, SETTING, {"command": f"make {method}", "machine": {}}, [run])

    add("cut", 0, 1.0, identity)
    add("cut", 1, 2.0, {**identity, "psnr": 9.0})
    add("ggcl", 0, 3.0, back)
    add("cut", 0, 4.0)
    content = read_results(path)
    assert [(run["method"], run["seed"], run["rows"][0]["psnr"]) for run in content["runs"]] == [
        ("cut", 0, 4.0),
        ("cut", 1, 2.0),
        ("ggcl", 0, 3.0),
    ]
    assert content["baselines"] == [identity, back]
    assert content["commands"] == ["make cut", "make ggcl"]
    with pytest.raises(ValueError, match="results of another setting"):
        add_runs(path, {"bundle": "ggcl", "budget": 9}, {"command": "", "machine": {}}, [])


def test_the_board_knows_where_its_bundle_is():
    assert all((board.configs / "train.yaml").is_file() for board in find_boards().values())
    assert Path("pyproject.toml").resolve().parent == ROOT or (ROOT / "pyproject.toml").is_file()


def test_a_second_test_set_is_scored_once_and_changes_no_training(board, monkeypatch, tmp_path):
    """The process of the evaluation is replaced; the training is done, and a training would fail the test."""
    calls = []

    def evaluate(log: Path, module: str, *arguments: str) -> None:
        calls.append(arguments)
        assert arguments[:2] == ("run", "evaluating")
        assert arguments[arguments.index("--dataset_dir") + 1] == str(tmp_path / "real")
        folder = Path(arguments[arguments.index("--output_dir") + 1])
        folder.mkdir()
        (folder / "metrics.csv").write_text(
            "patient,direction,method,psnr\nhead,T1->T2,network,30.5\nhead,T1->T2,identity,20.5\n"
        )

    monkeypatch.setattr("common.leaderboard.run._call", evaluate)
    runs = tmp_path / "runs"
    shutil.copytree(board["arguments"]["output_dir"], runs)
    changes = {"second": tmp_path / "real", "output_dir": runs, "result": tmp_path / "r.json"}
    for _ in range(2):
        path = run_leaderboard("nec_t1t2", **board["arguments"] | changes)
    content = json.loads(path.read_text())
    row = {"patient": "head", "direction": "T1->T2", "method": "network", "psnr": 30.5}
    assert content["runs"][0]["second"] == [row]
    assert content["runs"][0]["rows"] == board["content"]["runs"][0]["rows"]
    assert content["second_baselines"] == [{**row, "method": "identity", "psnr": 20.5}]
    assert len(calls) == 1
    table = second_table(find_board("nec_t1t2"), content).splitlines()
    assert table[2].startswith("| NEC | 30.50 |")
    assert table[3].startswith("| identity | 20.50 |")


def test_a_run_that_another_bundle_has_done_is_taken_from_there(tmp_path):
    board = find_board("kcgan_kernel_conversion")
    setting = {"bundle": "kcgan_kernel_conversion", "budget": 8}
    path = tmp_path / "kcgan_kernel_conversion.json"
    runs = [{"method": name, "seed": 0, "rows": []} for name in ("stargan", "physics", "cut:B30f:B70f")]
    add_runs(tmp_path / "ggcl.json", SETTING, {"command": "", "machine": {"cores": 2}}, runs)
    found = shared_run(board, "stargan", 0, path, setting)
    assert found == {"machine": {"cores": 2}, **runs[0], "shared_with": "ggcl"}
    assert shared_run(board, "cut:B30f:B70f", 0, path, setting) is not None
    assert shared_run(board, "stargan", 1, path, setting) is None, "another seed"
    assert shared_run(board, "physics", 0, path, setting) is None, "physics trains with the bundle's own guidance"
    assert shared_run(board, "stargan", 0, path, {**setting, "budget": 9}) is None, "another budget"
    assert shared_run(find_board("ggcl"), "stargan", 0, path, SETTING) is None


@pytest.mark.parametrize("board", find_boards().values(), ids=find_boards())
def test_the_overrides_of_an_evaluation_leave_no_id_without_use(board):
    parser = ConfigParser()
    parser.read_config([str(board.configs / f"{name}.yaml") for name in ("inference", "evaluate")])
    parser.update({"bundle_root": str(board.configs.parent), **board.evaluation, **board.network_alone()})
    parser.parse()
    preflight.check(config=parser)
