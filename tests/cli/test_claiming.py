import json
from pathlib import Path

import pytest

from ziggurat.claims import ledger


def test_claim_measures_shows_and_records(command, fake, tmp_path):
    code, out, err = command("claim", "coin")
    assert code == 0
    assert "measurement\tmean ± spread\tseeds\tcriterion\tverdict" in out
    assert "knowing − plain\t0.41 ± 0.01 accuracy\t3\t>= 0.3\tholds" in out
    assert "sides\t2 ± 0\t3\t== 2\tholds" in out
    assert "knowing: published 0.95, here 0.91 ± 0.01" in out
    assert "coin: holds, measured on " in out and f"record: {tmp_path}/ledger/coin.json" in out
    assert err.splitlines()[0] == "coin: Coins That Know"
    assert "coin: seed 2 measured in 0.0 minutes" in err and "\x1b" not in out + err
    assert ledger.read("coin")["verdict"] == "holds"


def test_quiet_json(command, fake):
    code, out, err = command("claim", "coin", "--json", "--quiet")
    assert (code, err) == (0, "") and json.loads(out) == [ledger.read("coin")]


def test_variants_name_their_paper(command, fake):
    command("claim", "silver", "--quiet")
    assert ledger.read("coin")["verdict"] == "holds"


def test_a_failure_asks_for_its_reason(command, fake):
    fake.edit(fake.claim, "PLAIN = 0.5", "PLAIN = 0.8")
    _, out, err = command("claim", "coin")
    assert "coin: fails, measured on" in out and "The claim did not hold: set `why` in its notes" in err
    fake.edit(fake.claim, 'easy="all"', 'easy="all", why=("scale", "few throws")')
    _, out, err = command("claim", "coin")
    assert "coin: fails (scale: few throws), measured" in out and "in support of the reason: gap = 0.25" in out
    assert "did not hold" not in err


def test_a_baseline_below_its_floor_is_said(command, fake):
    fake.edit(fake.claim, "PLAIN = 0.5", "PLAIN = 0.4")
    assert "plain is below its floor of 0.45: nothing can be concluded." in command("claim", "coin")[1]


def test_unjudged_seconds_are_said(command, fake, monkeypatch):
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: "the load is 9.0 on 2 cores.")
    _, out, err = command("claim", "coin")
    assert "throw\t0.1 ± 0 s\t3\t<= 1\tunjudged" in out
    assert "Seconds are unjudged: the load is 9.0 on 2 cores. Measure again with --fresh" in err


def test_values_that_are_not_finite(command, fake):
    fake.edit(fake.claim, "SECONDS = 0.1", 'SECONDS = float("inf")')
    assert "throw\tnot finite ± not finite s" in command("claim", "coin")[1]


def test_a_trial_leaves_the_ledger_as_it_is(command, fake):
    code, out, _ = command("claim", "coin", "--seeds", "100,101,102", "--quiet")
    assert code == 0 and "coin: holds" in out and "record:" not in out and ledger.read("coin") is None
    code, out, err = command("claim", "coin", "--seeds", "100")
    assert code == 0 and "coin: inconclusive" in out and "did not hold" not in err


def test_out(command, fake, tmp_path):
    command("claim", "coin", "--out", str(tmp_path / "here"), "--quiet")
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["coin-clauses.png", "coin.json"]
    assert ledger.read("coin") is None


def test_all_measures_what_has_no_current_record(command, fake, monkeypatch):
    import ziggurat.cli.claiming as claiming

    assert "coin" in claiming.unmeasured() and "sgc" in claiming.unmeasured()
    monkeypatch.setattr(
        claiming, "unmeasured", lambda original=claiming.unmeasured: [n for n in original() if n == "coin"]
    )
    assert command("claim", "--all", "--quiet")[0] == 0
    assert command("claim", "--all", "--quiet")[1] == "Every experiment has a current record.\n"
    fake.edit(fake.coin, '"tin"', '"gold"')
    assert "coin: holds" in command("claim", "--all", "--quiet")[1]


def test_one_claim_that_cannot_be_measured_does_not_stop_the_others(command, fake, monkeypatch):
    other = fake.claim.with_name("silver_coin.py")
    other.write_text(
        fake.claim.read_text().replace("measured.append(seed)", 'raise FileNotFoundError("throws needs a file.")')
    )
    from tests.claims import ROW, forget
    from ziggurat import catalogue

    content = {**catalogue._content(), "silver_coin": {**ROW, "variants": {}}}
    monkeypatch.setattr(catalogue, "_content", lambda: content)
    forget()
    code, out, err = command("claim", "silver_coin", "coin")
    assert code == 2 and "coin: holds" in out
    assert "silver_coin: throws needs a file." in err
    assert err.splitlines()[-1] == "ziggurat: 1 of 2 claims could not be measured: silver_coin."
    code, _, err = command("claim", "silver_coin", "--quiet")
    assert (code, err) == (2, "ziggurat: throws needs a file.\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "name at least one paper (`ziggurat list --has claim` shows them), or --all."),
        (["coin", "--all"], "name at least one paper"),
        (["coyn"], "there is no 'coyn' in the catalogue; the nearest names are coin, "),
        (["coin", "mlp"], "mlp has no experiment; `ziggurat list --has claim` lists those that have one."),
        (["coin", "--scale", "huge"], "--scale must be quick or full, got 'huge'."),
        (["coin", "--seeds", "1,x"], "--seeds takes different numbers with commas between them"),
        (["coin", "--seeds", "1,1"], "--seeds takes different numbers"),
        (["coin", "--seeds=-1"], "--seeds takes different numbers"),
        (["coin", "--device", "abacus"], "device must be cpu, cuda, mps or auto, got 'abacus'."),
    ],
)
def test_mistakes_are_named_before_anything_is_measured(command, fake, words, text):
    code, out, err = command("claim", *words)
    assert (code, out) == (2, "") and err.startswith(f"ziggurat: {text}") and err.count("\n") == 1
    assert ledger.read("coin") is None


def test_a_full_disk_leaves_nothing_half_written(command, fake, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = command("claim", "coin", "--quiet")
    assert code == 2 and err == "ziggurat: the disk is full; free some space or choose another folder with --out.\n"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
