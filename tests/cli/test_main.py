import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

import ziggurat
from ziggurat.cli import doctoring, main
from ziggurat.cli.options import say_json

PYTHON = {**os.environ, "PYTHONPATH": str(Path(ziggurat.__file__).parents[1])}


def start(code, *words, **options):
    """A process of its own that runs some lines with the command's words."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env={**PYTHON, **options},
        preexec_fn=hear_interrupts,
    )


def hear_interrupts():
    """What starts in the background of a shell inherits that SIGINT is ignored; the command as a person starts it does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


RUN = "from ziggurat.cli.main import run; run()"


def test_help_list_and_show_import_no_torch():
    code = """
import sys
from ziggurat.cli.main import app
for words in (["--help"], ["list"], ["list", "--search", "residual"], ["list", "--has", "strides", "--json"],
              ["list", "--baselines"], ["show", "sgc"], ["show", "resnet18", "--json"], ["show", "sgc", "--bibtex"]):
    app(words, standalone_mode=False)
    print("torch" in sys.modules, file=sys.stderr)
"""
    process = start(code)
    out, err = process.communicate(timeout=60)
    assert err.split() == ["False"] * 8, err
    assert "Deep Residual Learning" in out and "\x1b" not in out


def test_a_mistake_is_one_sentence_and_exit_code_2_in_a_process_of_its_own():
    process = start(RUN, "show", "resnet19")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("ziggurat: there is no 'resnet19' in the catalogue; the nearest names are resnet1")
    assert err.count("\n") == 1 and "Traceback" not in err


def test_ctrl_c_is_exit_code_130():
    code = """
import time
from ziggurat.cli import main
@main.app.command("wait")
def wait():
    print("ready", flush=True)
    time.sleep(60)
main.run()
"""
    process = start(code, "wait")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "ziggurat: stopped; what was finished is kept."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="platform: there is no /dev/full")
def test_a_full_disk_behind_stdout():
    with open("/dev/full", "w") as full:
        process = start(RUN, "list", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.strip() == "ziggurat: the disk is full; free some space or choose another folder with --out."


def test_a_closed_pipe_is_no_mistake():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        process = start(RUN, "list", stdout=pipe)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (ValueError("the budget\n is negative."), "the budget is negative.", 2),
        (ValueError(), "ValueError", 2),
        (FileNotFoundError("cora needs a file."), "cora needs a file.", 2),
        (FileNotFoundError(2, "No such file or directory", "a.npz"), "a.npz: no such file or directory; check", 2),
        (PermissionError(13, "Permission denied", "out"), "out: permission denied; check the path", 2),
        (OSError(28, "No space left on device"), "the disk is full; free some space", 2),
        (FloatingPointError("loss is NaN at step 3."), "loss is NaN at step 3.", 2),
        (KeyboardInterrupt(), "stopped; what was finished is kept.", 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_mistakes_become_sentences(command, monkeypatch, error, text, code):
    def fails():
        raise error

    monkeypatch.setattr(doctoring, "examine", fails)
    got, out, err = command("doctor")
    assert (got, out) == (code, "")
    assert err.startswith(f"ziggurat: {text}") and err.count("\n") == 1


def test_debug_shows_the_traceback_and_defects_are_not_hidden(command, monkeypatch):
    def fails():
        raise ValueError("why")

    monkeypatch.setattr(doctoring, "examine", fails)
    monkeypatch.setenv("ZIGGURAT_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["ziggurat", "doctor"])
    with pytest.raises(ValueError, match="why"):
        main.run()
    monkeypatch.delenv("ZIGGURAT_DEBUG")
    monkeypatch.setattr(doctoring, "examine", lambda: {}["no_such_key"])
    with pytest.raises(KeyError):
        main.run()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["lst"], "No such command 'lst'"),
        (["list", "--nope"], "No such option: --nope"),
        (["show"], "Missing argument"),
        (["claim", "sgc", "--seeds"], "Option '--seeds' requires an argument"),
    ],
)
def test_the_parsers_mistakes(command, words, text):
    code, out, err = command(*words)
    assert (code, out) == (2, "") and err.startswith(f"ziggurat: {text}") and err.count("\n") == 1


def test_version_and_help(command):
    assert command("--version") == (0, f"{ziggurat.__version__}\n", "")
    code, out, err = command()
    assert code == 2 and err == "" and "ziggurat" in out


@pytest.mark.parametrize("verb", sorted(c.name for c in main.app.registered_commands))
def test_every_verb_has_help_without_colour(verb):
    result = CliRunner().invoke(main.app, [verb, "--help"], env={"NO_COLOR": "1", "COLUMNS": "200"})
    assert result.exit_code == 0 and "--json" in result.output and "\x1b" not in result.output


TRAINS = ("compare", "train")
DRAWS = (*TRAINS, "embed")
ON_A_DEVICE = (*TRAINS, "claim", "evaluate", "embed", "search", "serve")
INTO_A_FOLDER = (*TRAINS, "claim", "explain", "export")


@pytest.mark.parametrize("verb", sorted(c.name for c in main.app.registered_commands))
def test_the_options_of_every_verb(verb):
    shown = CliRunner().invoke(main.app, [verb, "--help"], env={"NO_COLOR": "1", "COLUMNS": "200"}).output
    options = {option for option in ("--json", "--quiet", "--seed", "--device", "--out") if f"{option} " in shown}
    wanted = {"--json", "--quiet"}
    wanted |= {"--seed"} if verb in DRAWS else set()
    wanted |= {"--device"} if verb in ON_A_DEVICE else set()
    wanted |= {"--out"} if verb in INTO_A_FOLDER else set()
    assert options == wanted


def test_warnings_are_sentences_and_quiet_has_none(command, monkeypatch):
    import warnings

    def warns():
        warnings.warn("1 of 3 files\n were left out.", UserWarning, stacklevel=2)
        warnings.warn("for authors", FutureWarning, stacklevel=1)
        raise ValueError("why")

    monkeypatch.setattr(doctoring, "examine", warns)
    before = warnings.showwarning
    assert command("doctor")[2].splitlines()[0] == "ziggurat: 1 of 3 files were left out."
    assert command("doctor", "--quiet")[2] == "ziggurat: why\n"
    assert warnings.showwarning is before


def test_json_has_no_word_for_what_is_not_finite(capsys):
    say_json([{"mean": float("nan"), "pair": (1.5, float("inf"))}])
    assert json.loads(capsys.readouterr().out) == [{"mean": None, "pair": [1.5, None]}]


def test_no_training_goes_on_after_its_command_was_killed(tmp_path):
    process = start(RUN, "compare", "digits", "mlp", "--budget", "100000steps", "--seeds", "1", "--out", str(tmp_path))
    parent, deadline = psutil.Process(process.pid), time.monotonic() + 240
    everyone: list[psutil.Process] = []
    try:
        while not any(p.ppid() != parent.pid and p.cpu_times().user > 1 for p in everyone):
            assert time.monotonic() < deadline, "the training never began"
            time.sleep(0.2)
            everyone = parent.children(recursive=True)
    finally:
        process.kill()
        _, alive = psutil.wait_procs(everyone, timeout=20)
        for left in alive:
            left.kill()
        process.communicate()
    assert not alive
