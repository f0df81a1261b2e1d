import json
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.typecheck import value_error
from ziggurat.claims import ledger, measure
from ziggurat.claims.measuring import draw
from ziggurat.claims.sources import stale
from ziggurat.metrics import Finding, at_least, at_most, exactly


def test_a_claim_that_holds(fake):
    record = measure("coin", quiet=True)
    assert record == ledger.read("coin")
    assert record["verdict"] == "holds" and record["title"] == "Coins That Know"
    assert record["seeds"] == [0, 1, 2] and fake.module.measured == [0, 1, 2]
    first, sides, seconds = record["clauses"]
    assert first["mean"] == pytest.approx(0.41) and first["spread"] == pytest.approx(0.01)
    assert first["criterion"] == 0.3 and first["verdict"] == "holds" and first["unit"] == "accuracy"
    half = 1.885618 * 0.01 / np.sqrt(3)
    assert first["margin_interval_80"] == pytest.approx([0.11 - half, 0.11 + half], abs=1e-6)
    assert sides["margin_interval_80"] is None and sides["verdict"] == seconds["verdict"] == "holds"
    assert record["measurements"]["knowing"] == [0.9, 0.91, 0.92]
    (beside,) = record["beside"]
    assert beside["published"] == 0.95 and beside["ours"] == pytest.approx(0.91)
    assert record["published"] == {"1": "0.9 against 0.5"}
    assert [record[k] for k in ("scope", "methodology", "origin", "easy", "hard")] == [
        "coins", "equal throws", "the paper", "all", "none",
    ]  # fmt: skip
    assert (
        record["why"] is None and record["support"] == {} and record["load"] == "quiet" and record["scale"] == "quick"
    )
    assert set(record["environment"]) == {"python", "torch", "platform", "cpu", "cores", "threads", "device"}
    assert record["sources"]["own"].keys() == {"claims/fakes/coin.py", "mint/coin.py"}
    assert not stale(record)


def test_records_name_no_machine_and_no_place(fake):
    text = json.dumps(measure("coin", quiet=True))
    assert str(fake.root.parent) not in text and str(Path.home()) not in text
    assert f'"{socket.gethostname()}"' not in text and '": "/' not in text


def test_the_picture_shows_every_clause(fake, tmp_path):
    record = measure("coin", quiet=True)
    assert record["plots"] == {"clauses": "clauses.png"}
    width, height = Image.open(tmp_path / "runs/claims/coin/clauses.png").size
    assert (width, height) == (840, round(120 * (1 + 0.9 * 3)))


def test_drawing_every_kind_of_verdict_leaves_no_global_state(tmp_path):
    finding = Finding(
        (at_least("a", [1, 2, 3], 2), at_most("b", [1, 1.1, 1.2], 1), exactly("c", 3, 3), at_least("d", [1], 0))
    )
    draw(finding, "a title $\\alpha$ " * 20, tmp_path / "p.png", judge_seconds=False)
    assert Image.open(tmp_path / "p.png").size[0] == 840
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.parametrize(
    ("values", "seeds", "verdict"),
    [
        # straddles at three, is clear at five
        ([0.79, 0.85, 0.95, 0.9, 0.9, 9, 9, 9], 5, "holds"),
        # straddles to the end
        ([0.7, 0.9, 0.8, 0.7, 0.9, 0.8, 0.7, 0.9], 8, "inconclusive"),
        # straddles at three and at five, falls short at eight
        ([0.7, 0.9, 0.75, 0.75, 0.78, 0.7, 0.71, 0.7], 8, "fails"),
        ([0.7, 0.71, 0.7, 9, 9, 9, 9, 9], 3, "fails"),
    ],
)
def test_more_seeds_while_the_verdict_is_open(fake, values, seeds, verdict):
    fake.module.KNOWING[:] = values
    record = measure("coin", quiet=True)
    assert (record["seeds"], record["verdict"]) == (list(range(seeds)), verdict)
    assert fake.module.measured == list(range(seeds))  # each seed once


def test_a_failure_has_its_reason_and_the_extra_measurement_without_measuring_seeds_again(fake):
    fake.edit(fake.claim, "PLAIN = 0.5", "PLAIN = 0.8")
    assert measure("coin", quiet=True)["why"] is None
    fake.edit(fake.claim, 'easy="all"', 'easy="all", why=("scale", "few throws")')
    record = measure("coin", quiet=True)
    assert record["verdict"] == "fails" and record["support"] == {"gap": 0.25}
    assert record["why"] == {"reason": "scale", "explanation": "few throws"}
    assert fake.module.measured == []


def test_a_reason_is_not_given_for_a_claim_that_holds(fake):
    fake.edit(fake.claim, 'easy="all"', 'easy="all", why=("scale", "few throws")')
    record = measure("coin", quiet=True)
    assert record["why"] is None and record["support"] == {}


def test_a_baseline_below_its_floor(fake):
    fake.edit(fake.claim, "PLAIN = 0.5", "PLAIN = 0.4")
    record = measure("coin", quiet=True)
    assert record["verdict"] == "inconclusive"
    assert record["floors"][0]["sentence"] == "plain reached 0.4, below its floor of 0.45: nothing can be concluded."


def test_seconds_are_unjudged_on_a_busy_machine_and_stay_so_until_measured_afresh(fake, monkeypatch):
    fake.edit(fake.claim, "SECONDS = 0.1", "SECONDS = 2.0")
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: "the load is 9.0 on 2 cores.")
    record = measure("coin", quiet=True)
    assert record["verdict"] == "holds" and record["clauses"][2]["verdict"] == "unjudged"
    assert record["load"] == "the load is 9.0 on 2 cores."
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: None)
    assert measure("coin", quiet=True)["clauses"][2]["verdict"] == "unjudged"
    record = measure("coin", quiet=True, fresh=True)
    assert record["verdict"] == "fails" and record["load"] == "quiet"
    assert fake.module.measured == [0, 1, 2, 0, 1, 2]


def test_given_seeds_are_a_trial(fake, tmp_path):
    fake.module.KNOWING[:] = [0.7, 0.9] * 4
    record = measure("coin", seeds=(100, 101, 102), quiet=True)
    assert record["seeds"] == [100, 101, 102] and record["verdict"] == "inconclusive"
    assert ledger.read("coin") is None and fake.module.measured == [100, 101, 102]
    with value_error("seeds must name at least one seed"):
        measure("coin", seeds=())


def test_out_takes_record_and_pictures(fake, tmp_path):
    record = measure("coin", out=tmp_path / "new/place", quiet=True)
    assert json.loads((tmp_path / "new/place/coin.json").read_text()) == record
    assert (tmp_path / "new/place/coin-clauses.png").is_file() and ledger.read("coin") is None


def test_sources_are_those_from_before_the_measurement(fake):
    def edit_during(run):
        fake.claim.write_text(fake.claim.read_text().replace("0.3, ", "0.2, "))
        return original(run)

    original, fake.module.measure = fake.module.measure, edit_during
    assert stale(measure("coin", quiet=True))


def test_a_paper_without_experiment(fake):
    fake.claim.unlink()
    from ziggurat.claims.sources import path_of

    path_of.cache_clear()
    with value_error("coin has no experiment; `ziggurat list --has claim` lists those that have one"):
        measure("coin")


def test_a_mistake_inside_an_experiment_is_not_hidden(fake):
    fake.edit(fake.claim, "from ziggurat.claims.notes", "import no_such_package\nfrom ziggurat.claims.notes")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        measure("coin")
