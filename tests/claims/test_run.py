import json
import sys

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.claims.run import Run


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_RUNS", str(tmp_path))
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: None)
    return tmp_path


def test_each_seed_gives_one_array_a_measurement(runs):
    run = Run("coin", key="k", seeds=(3, 5))
    rows = run.each_seed(lambda run, seed: {"a": float(seed), "b": np.float32(0.5)})
    assert set(rows) == {"a", "b"}
    np.testing.assert_array_equal(rows["a"], [3.0, 5.0])
    assert sorted(p.name for p in (runs / "claims/coin/k").iterdir()) == ["seed3.json", "seed5.json"]


def test_an_interrupted_run_goes_on_where_it_was():
    done = []

    def one_seed(run, seed):
        if seed == 2 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(seed)
        return {"a": seed / 10}

    with pytest.raises(KeyboardInterrupt):
        Run("coin", key="k").each_seed(one_seed)
    done.append("again")
    rows = Run("coin", key="k").each_seed(one_seed)
    assert done == [0, 1, "again", 2]
    np.testing.assert_array_equal(rows["a"], [0.0, 0.1, 0.2])


def test_seeds_of_another_key_are_not_used():
    done = []

    def one_seed(run, seed):
        done.append(seed)
        return {"a": 1.0}

    Run("coin", key="k", seeds=(0,)).each_seed(one_seed)
    Run("coin", key="other", seeds=(0,)).each_seed(one_seed)
    assert done == [0, 0]


def test_two_functions_of_an_experiment_do_not_take_each_others_values():
    def first(run, seed):
        return {"a": 1.0}

    def second(run, seed):
        return {"b": 2.0}

    run = Run("coin", seeds=(0, 1))
    assert set(run.each_seed(first)) == {"a"}
    assert set(run.each_seed(second)) == {"b"}
    assert set(Run("coin", seeds=(0, 1)).each_seed(first)) == {"a"}


def test_values_that_are_not_finite_survive_being_kept():
    def one_seed(run, seed):
        return {"a": float("nan") if seed else float("inf")}

    for _ in range(2):
        np.testing.assert_array_equal(Run("coin", seeds=(0, 1)).each_seed(one_seed)["a"], [np.inf, np.nan])


def test_minutes_and_load_are_kept_with_the_seed(runs, monkeypatch):
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: "the load is 9.0 on 2 cores.")
    Run("coin", seeds=(0,)).each_seed(one := lambda run, seed: {"a": 1.0})
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: None)
    path = runs / "claims/coin/none/seed0.json"
    kept = json.loads(path.read_text())
    (name,) = kept
    kept[name]["minutes"] = 7.0
    path.write_text(json.dumps(kept))
    run = Run("coin", seeds=(0, 1))
    run.each_seed(one)
    assert run.minutes == pytest.approx(7.0, abs=0.1)
    assert run.load == "the load is 9.0 on 2 cores."  # seed 0 was measured then, though the machine is quiet now


def test_seeds_must_measure_the_same_things():
    run = Run("coin", seeds=(0, 1))
    with value_error("seed 1 of coin measured other things than the first: a, b"):
        run.each_seed(lambda run, seed: {"b": 1.0} if seed else {"a": 1.0})


def test_progress_is_silent_without_a_terminal_and_lines_go_to_stderr(capsys):
    assert list(Run("coin").progress([1, 2, 3], "things")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")
    Run("coin", seeds=(0,)).each_seed(lambda run, seed: {"a": 1.0})
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("coin: seed 0 measured in 0.0 minutes")
    Run("coin", seeds=(1,), quiet=True).each_seed(lambda run, seed: {"a": 1.0})
    assert capsys.readouterr() == ("", "")


def test_bars_may_be_nested_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run = Run("coin", seeds=(0, 1))

    def one_seed(run, seed):
        return {"a": float(sum(run.progress(range(3), "[steps]")))}

    np.testing.assert_array_equal(run.each_seed(one_seed)["a"], [3.0, 3.0])
    out, err = capsys.readouterr()
    assert out == "" and "coin: seeds" in err and run._bars is None
    assert list(run.progress(iter("ab"), "later")) == ["a", "b"]


def test_plot_path_is_in_the_folder_of_the_run(runs):
    run = Run("coin")
    assert run.plot_path("curve") == runs / "claims/coin/curve.png"
    assert run.plots == {"curve": runs / "claims/coin/curve.png"} and run.folder.is_dir()


def test_data_by_name():
    assert len(Run("coin").data("digits")) == 1797
