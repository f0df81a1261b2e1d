"""Killed in the middle of an epoch and resumed: the weights of a training that was never stopped, bit for bit."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.workflows.artifact import load_artifact
from ziggurat.workflows.budget import parse_budget
from ziggurat.workflows.methods import parse_method
from ziggurat.workflows.training import Unfinished, prepare, train_method

METHODS = ["cifar_resnet20", "simsiam/cifar_resnet20", "mono_forward/mlp"]
SCRIPT = """
import os, signal, sys
import torch
from pathlib import Path
torch.set_num_threads(1)
import ziggurat.nn.fitting as fitting
from ziggurat.workflows.budget import parse_budget
from ziggurat.workflows.methods import parse_method
from ziggurat.workflows.training import Unfinished, prepare, train_method

method, target = sys.argv[1], Path(sys.argv[2])
save = fitting.Keep.on_train_batch_end

def save_and_die(self, trainer, *rest):
    save(self, trainer, *rest)
    if trainer.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

fitting.Keep.on_train_batch_end = save_and_die
keep = Unfinished(target, {"method": method}, seconds=0)
train_method(parse_method(method), prepare("digits"), parse_budget("6steps"), 1, keep=keep)
"""


def weights(method, keep=None):
    outcome, artifact = train_method(parse_method(method), prepare("digits"), parse_budget("6steps"), 1, keep=keep)
    return outcome, artifact.learner.state_dict()


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed(method, tmp_path):
    target = tmp_path / "made"
    killed = subprocess.run([sys.executable, "-c", SCRIPT, method, str(target)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    keep = Unfinished(target, {"method": method}, seconds=1e9)
    keep.resume()
    assert keep.steps == 6 and keep.checkpoint.is_file()
    outcome, resumed = weights(method, keep)
    whole_outcome, whole = weights(method)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert outcome.curve == whole_outcome.curve and outcome.accuracy == whole_outcome.accuracy
    assert not keep.checkpoint.exists()


def test_the_command_resumes_and_refuses(tmp_path, monkeypatch, capsys):
    from ziggurat.cli import main

    def command(*arguments):
        words = ["ziggurat", "train", "digits", "mlp", "--budget", "5steps", "--out", str(tmp_path), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            main.run()
        return stop.value.code, *capsys.readouterr()

    code, _, err = command("--resume")
    assert code == 2 and "nothing to resume" in err
    code, out, _ = command("--json")
    assert code == 0 and load_artifact(json.loads(out)["checkpoint"]).method == "mlp"
    assert not list(tmp_path.glob("*.unfinished.*"))


def test_another_training_is_not_resumed(tmp_path):
    Unfinished(tmp_path / "x", {"method": "mlp", "seed": 0}).begin(5)
    with value_error("seed 0 \\(now 1\\)"):
        Unfinished(tmp_path / "x", {"method": "mlp", "seed": 1}).resume()
