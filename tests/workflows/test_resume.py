"""Killed in the middle of an epoch and resumed: the weights of a training that was never stopped, bit for bit."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.cli import main
from ziggurat.nn.fitting import Keep
from ziggurat.workflows.artifact import Artifact, load_artifact
from ziggurat.workflows.budget import parse_budget
from ziggurat.workflows.methods import parse_method
from ziggurat.workflows.training import Unfinished, prepare, train_method

METHODS = ["cifar_resnet20", "simsiam/cifar_resnet20", "mono_forward/mlp"]
STEPS, KILLED = 15, 13  # an epoch has ten steps, so the second one has begun and is not over
SCRIPT = f"""
import os, signal, sys
import torch
torch.set_num_threads(1)
from ziggurat.cli import main
from ziggurat.nn.fitting import Keep

save = Keep.on_train_batch_end

def save_and_die(self, trainer, *rest):
    self.seconds = 0 if trainer.global_step == {KILLED - 1} else 1e9
    save(self, trainer, *rest)
    if trainer.global_step == {KILLED}:
        os.kill(os.getpid(), signal.SIGKILL)

Keep.on_train_batch_end = save_and_die
main.run()
"""


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process: exit code, stdout, stderr."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ziggurat", *words])
        with pytest.raises(SystemExit) as stop:
            main.run()
        return stop.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed(method, tmp_path, command):
    def words(folder):
        options = ["--budget", f"{STEPS}steps", "--seed", "1", "--quiet", "--json", "--out", str(tmp_path / folder)]
        return ["train", "digits", method, *options]

    killed = subprocess.run([sys.executable, "-c", SCRIPT, *words("killed")], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    left = {path.name.partition(".")[2] for path in (tmp_path / "killed").iterdir()}
    assert left == {"unfinished.json", "unfinished.ckpt"}
    kept = torch.load(next((tmp_path / "killed").glob("*.ckpt")), weights_only=True)
    assert (kept["global_step"], kept["epoch"]) == (KILLED - 1, 1)

    code, out, err = command(*words("killed"), "--resume")
    assert code == 0, err
    resumed, whole = json.loads(out), json.loads(command(*words("whole"))[1])
    assert resumed["steps"] == STEPS and resumed["accuracy"] == whole["accuracy"]
    one, other = (load_artifact(result["checkpoint"]).learner.state_dict() for result in (resumed, whole))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in other)
    assert not list((tmp_path / "killed").glob("*unfinished*"))


def test_the_curve_goes_on_and_the_checkpoint_stays_until_the_result_is_safe(tmp_path):
    def train(path):
        keep = Unfinished(path, {"method": "mlp"}, seconds=0)
        if path.name == "half":
            keep.resume()
        return keep, train_method(parse_method("mlp"), prepare("digits"), parse_budget("6steps"), 1, keep=keep)[0]

    class Stop(Exception):
        pass

    class Stopping(Keep):
        def on_train_batch_end(self, trainer, *rest):
            super().on_train_batch_end(trainer, *rest)
            if trainer.global_step == 4:
                raise Stop

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stop):
        patched.setattr("ziggurat.workflows.training.Keep", Stopping)
        train(tmp_path / "first")
    for path in tmp_path.iterdir():
        path.rename(path.with_name(path.name.replace("first", "half")))
    keep, half = train(tmp_path / "half")
    _, whole = train(tmp_path / "whole")
    assert half.curve == whole.curve and len(half.curve) == 6 and half.accuracy == whole.accuracy
    assert keep.checkpoint.is_file()
    cut_off = keep.checkpoint.with_name(f".{keep.checkpoint.name}.123")
    cut_off.write_bytes(b"killed while writing")
    keep.forget()
    assert not list(tmp_path.glob("*half*")) and not cut_off.exists()


def test_the_command_resumes_and_refuses(tmp_path, command):
    words = ["train", "digits", "mlp", "--budget", "5steps", "--out", str(tmp_path)]
    code, _, err = command(*words, "--resume")
    assert code == 2 and "nothing to resume" in err
    code, out, _ = command(*words, "--json")
    assert code == 0 and load_artifact(json.loads(out)["checkpoint"]).method == "mlp"
    assert not list(tmp_path.glob("*.unfinished.*"))


def test_another_training_is_not_resumed(tmp_path):
    Unfinished(tmp_path / "x", {"method": "mlp", "seed": 0}).begin(5)
    with value_error("seed 0 \\(now 1\\)"):
        Unfinished(tmp_path / "x", {"method": "mlp", "seed": 1}).resume()
    (tmp_path / "x.unfinished.json").write_text("{")
    with value_error("damaged; run the same command without --resume"):
        Unfinished(tmp_path / "x", {"method": "mlp", "seed": 1}).resume()


def test_what_was_trained_is_not_lost_when_it_cannot_be_saved(tmp_path, monkeypatch, command):
    def full(self, path):
        raise OSError(28, "No space left on device")

    words = ["train", "digits", "mlp", "--budget", "3steps", "--json", "--out", str(tmp_path)]
    monkeypatch.setattr("ziggurat.workflows.training.Keep", lambda path, seconds: Keep(path, 0))
    with monkeypatch.context() as patched:
        patched.setattr(Artifact, "save", full)
        assert command(*words)[0] == 2 and (tmp_path / "mlp-seed0.unfinished.ckpt").is_file()
    code, out, _ = command(*words, "--resume")
    assert code == 0 and json.loads(out)["steps"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlp-seed0.json", "mlp-seed0.safetensors"]
