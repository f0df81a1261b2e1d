import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch_geometric.data import Data

from tests.typecheck import value_error
from ziggurat.data.datasets import Graphs
from ziggurat.data.readers import READERS
from ziggurat.report.comparison import number, write_page
from ziggurat.workflows.artifact import load_artifact
from ziggurat.workflows.budget import Budget, parse_budget
from ziggurat.workflows.comparing import COLUMNS, run_comparison, summarise
from ziggurat.workflows.exporting import export
from ziggurat.workflows.methods import Shape, check_fit, make_learner, parse_method, small_image_warning
from ziggurat.workflows.outcome import Outcome
from ziggurat.workflows.training import fit_probe, macro_f1, prepare, steps_of, train_method

DIGITS = Shape("image", tuple("0123456789"), 1, 8, 64)
GRAPH = Shape("graph", ("a", "b"), features=5)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("60s", Budget(60, "seconds")),
        ("5m", Budget(300, "seconds")),
        ("1.5h", Budget(5400, "seconds")),
        ("400steps", Budget(400, "steps")),
        ("1epoch", Budget(1, "epochs")),
    ],
)
def test_budgets(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "-5s", "0s", "soon", "5 minutes", "1.5steps", "nan s", "10"])
def test_nonsense_budgets_are_refused(text):
    with value_error("budget"):
        parse_budget(text)


def test_methods_are_parsed():
    method = parse_method("simsiam/resnet18:stem=cifar,width=64,symmetric=false")
    assert (method.learner, method.name) == ("simsiam", "resnet18")
    assert method.options == {"stem": "cifar", "width": 64, "symmetric": False}
    assert parse_method("sgc").contract == "staged"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnt18", "nearest names are resnet18"),
        ("simsam/resnet18", "nearest names are simsiam"),
        ("simsiam", "needs a network"),
        ("mlp/resnet18", "mlp is no learner"),
        ("resnet", "build one of its variants"),
        ("mlp:width", "key=value"),
    ],
)
def test_wrong_methods_are_named(text, says):
    with value_error(says):
        parse_method(text)


def test_what_does_not_fit_is_named():
    with value_error("gcn takes graph input, and digits is image data"):
        check_fit(parse_method("gcn"), DIGITS, "digits")
    with value_error("resnet18 takes image input, and cora is graph data"):
        check_fit(parse_method("resnet18"), GRAPH, "cora")
    for text in ("gcn", "sgc", "mlp"):
        check_fit(parse_method(text), GRAPH, "cora")


def test_a_large_stem_on_small_images_is_warned_of():
    assert "resnet18:stem=cifar" in small_image_warning(parse_method("resnet18"), DIGITS)
    assert small_image_warning(parse_method("resnet18:stem=cifar"), DIGITS) is None
    assert small_image_warning(parse_method("mlp"), DIGITS) is None


def test_learners_are_made_for_the_data():
    learner = make_learner(parse_method("simsiam/cifar_resnet20:bottleneck=16"), DIGITS, 32)
    assert (learner.image_size, learner.channels, learner.batch_size) == (8, 1, 32)
    assert learner.predictor[0].out_features == 16 and learner.network.stem[0].conv.in_channels == 1
    with value_error("no argument wings"):
        make_learner(parse_method("mlp:wings=2"), DIGITS, 32)


def test_budget_becomes_steps():
    data = prepare("digits")
    learner = make_learner(parse_method("mlp"), data.shape, 128)
    batches = [None] * 10
    assert steps_of(Budget(7, "steps"), learner, batches, 0) == 7
    assert steps_of(Budget(3, "epochs"), learner, batches, 0) == 30


def test_macro_f1_against_the_definition():
    said, true = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 1, 0])
    scores = []
    for c in range(3):
        tp = int(((said == c) & (true == c)).sum())
        scores.append(2 * tp / max(int((said == c).sum() + (true == c).sum()), 1))
    assert macro_f1(said, true, 3) == pytest.approx(np.mean(scores))


def test_the_probe_is_chosen_on_validation():
    class Fixed:
        def __init__(self, label):
            self.label = label

        def fit(self, x, y):
            return self

        def predict(self, x):
            return np.full(len(x), self.label)

    features = [torch.zeros(4, 2)] * 3
    labels = [torch.zeros(4).long(), torch.ones(4).long(), torch.zeros(4).long()]
    _, valid, _, test = fit_probe([Fixed(0), Fixed(1)], features, labels)
    assert valid.tolist() == [1] * 4 and test.tolist() == [1] * 4


def test_training_saving_loading_and_export(tmp_path):
    data = prepare("digits")
    outcome, artifact = train_method(parse_method("mlp:dropout=0.1"), data, Budget(150, "steps"), seed=1)
    assert outcome.accuracy > 0.9 and outcome.steps == 150 and outcome.parameters == 85_002 and outcome.macs == 84_480
    assert outcome.macro_f1 == pytest.approx(outcome.accuracy, abs=0.02) and len(outcome.curve) == 150
    again, _ = train_method(parse_method("mlp:dropout=0.1"), data, Budget(150, "steps"), seed=1)
    assert again.accuracy == outcome.accuracy and again.curve == outcome.curve

    path = artifact.save(tmp_path / "deep" / "model")
    loaded = load_artifact(path)
    x = data.parts.test.inputs(range(5))
    assert torch.equal(loaded.learner.predict(loaded.prepare(x)), artifact.learner.predict(artifact.prepare(x)))
    assert loaded.prepare(torch.rand(2, 3, 20, 20)).shape == (2, 1, 8, 8)
    assert json.loads(path.with_suffix(".json").read_text())["method"] == "mlp:dropout=0.1"
    assert export(loaded, tmp_path / "model.pt2", "torch") < 1e-4 and (tmp_path / "model.pt2").is_file()
    assert not list(tmp_path.glob(".*"))

    path.write_bytes(path.read_bytes()[:100])
    with value_error("damaged"):
        load_artifact(path)
    path.with_suffix(".json").write_text("{}")
    with value_error("damaged|format"):
        load_artifact(path)
    with value_error("there is no checkpoint"):
        load_artifact(tmp_path / "other")


def test_comparison_in_children_with_a_page(tmp_path):
    result = run_comparison("digits", ["mlp", "mono_forward/mlp"], "30steps", seeds=2, out=tmp_path)
    table = result.table
    assert tuple(table.columns) == COLUMNS and len(table) == 2
    assert (table["accuracy_mean"] > 0.8).all() and (table["error"] == "").all() and (table["steps"] == 30).all()
    assert result.best == tmp_path / "best.safetensors" and result.best.is_file()
    page = write_page(result).read_text()
    assert page.count("<tr") == 3 and "http" not in re.sub(r"data:image/png;base64,[^\"]+", "", page)
    assert page.count('alt="') == 2


def test_a_failing_method_is_a_row_and_not_the_end():
    good = Outcome("a", 0, accuracy=0.8, macro_f1=0.7, valid_accuracy=0.8, steps=3, train_seconds=1.0)
    table = summarise([Outcome("b", 0, error="ValueError: no."), good])
    assert list(table["method"]) == ["a", "b"]
    assert table["error"].tolist() == ["", "ValueError: no."] and math.isnan(table["accuracy_mean"][1])


def test_comparison_on_a_folder_of_pictures(tmp_path):
    rng = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 200)):
        (tmp_path / "d" / label).mkdir(parents=True)
        for i in range(20):
            pixels = np.clip(rng.normal(base, 20, (36, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "d" / label / f"{i}.png")
    (tmp_path / "d" / "dark" / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.warns(UserWarning, match="1 of 41 files"):
        data = prepare(str(tmp_path / "d"))
    outcome, _ = train_method(parse_method("mlp"), data, Budget(40, "steps"), seed=0)
    assert outcome.accuracy == 1.0


def test_numbers_for_people():
    assert [number(v) for v in (12, 1.26, 25_557_032, 4.1e9, 85_002, math.nan)] == [
        "12",
        "1.3",
        "25.6 M",
        "4.1 G",
        "85.0 k",
        "–",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("digits", ["mlp"], "5s", 0), "seeds must be 1 or more"),
        (("digits", []), "at least one method"),
        (("text_corpus", ["mlp"]), "cannot be compared on|which was not found"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(arguments, says):
    with value_error(says) if "found" not in says else pytest.raises((ValueError, FileNotFoundError), match=says):
        run_comparison(*arguments)


def cycles_and_stars(count=60):
    """Graphs with ones as features: odd ones are cycles, even ones stars."""
    graphs = []
    for i in range(count):
        nodes = 6 + i % 5
        ends = torch.arange(1, nodes)
        pairs = torch.stack([torch.zeros_like(ends), ends]) if i % 2 == 0 else torch.stack([ends - 1, ends])
        closing = torch.zeros(2, 0).long() if i % 2 == 0 else torch.tensor([[0], [nodes - 1]])
        edges = torch.cat([pairs, closing], 1)
        graphs.append(Data(x=torch.ones(nodes, 1), edge_index=torch.cat([edges, edges.flip(0)], 1)))
    return Graphs(tuple(graphs), torch.arange(count) % 2, ("star", "cycle"), "shapes")


def test_many_graphs_are_compared(monkeypatch, tmp_path):
    monkeypatch.setitem(READERS, "shapes", lambda name, split, root: cycles_and_stars())
    data = prepare("shapes")
    assert data.shape == Shape("graphs", ("star", "cycle"), features=1)
    assert data.notes[0] == "shapes: 60 graphs of 8.0 nodes on average, 2 classes"
    outcome, artifact = train_method(parse_method("gin:width=8,lr=0.01"), data, Budget(60, "epochs"), 0, batch_size=16)
    assert outcome.accuracy == 1.0 and outcome.macs > 0 and outcome.inference_per_second > 0
    again = load_artifact(artifact.save(tmp_path / "gin"))
    inputs = data.parts.test.inputs(range(4))
    assert torch.equal(again.learner.predict(*inputs), artifact.learner.eval().predict(*inputs))


def test_what_takes_no_graphs_is_named():
    shape = Shape("graphs", ("a", "b"), features=5)
    for text in ("mlp", "sgc", "resnet18"):
        with value_error(f"{text} takes .* input, and mutag is graphs data"):
            check_fit(parse_method(text), shape, "mutag")
    with value_error("fastrp embeds the nodes of one graph, and mutag is many"):
        check_fit(parse_method("fastrp"), shape, "mutag")


def test_links_of_a_graph_are_predicted(tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 30)
    dense = np.triu(rng.random((120, 120)) < np.where(y[:, None] == y, 0.35, 0.01), 1)
    edges = np.stack(np.nonzero(dense | dense.T))
    np.savez(tmp_path / "blocks.npz", edge_index=edges, y=y)
    result = run_comparison(
        tmp_path / "blocks.npz",
        ["node2vec:dimensions=16", "ncn:width=16"],
        "20epochs",
        1,
        tmp_path / "out",
        task="links",
    )
    assert result.measures == ("AUC", "HR@50") and not any(result.table["error"]), list(result.table["error"])
    assert result.best is None and (result.table["accuracy_mean"] > 0.8).all()
    assert "<th>AUC, %</th>" in write_page(result).read_text()
    assert {"auc_mean", "hr@50_std"} <= set(result.named().columns) and "accuracy_mean" not in result.named().columns


def test_what_does_not_predict_links_is_named(tmp_path):
    np.savez(tmp_path / "ring.npz", edge_index=np.stack([np.arange(40), (np.arange(40) + 1) % 40]), y=np.zeros(40, int))
    with value_error("gcn does not predict links"):
        run_comparison(tmp_path / "ring.npz", ["gcn"], task="links")
    with value_error("say so with --task links"):
        check_fit(parse_method("ncn"), GRAPH, "cora")
    with value_error("digits is no graph"):
        run_comparison("digits", ["ncn"], task="links")
    with value_error("task must be one of classes, links"):
        run_comparison("digits", ["mlp"], task="colours")


def test_values_of_graphs_are_predicted(monkeypatch):
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(120):
        n = int(rng.integers(4, 12))
        edges = torch.tensor([[i, (i + 1) % n] for i in range(n)]).T
        x = torch.from_numpy(rng.random((n, 3))).float()
        graphs.append(Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=x[:, 0].mean()[None]))
    labels = torch.cat([graph.y for graph in graphs])
    drawn = Graphs(tuple(graphs), labels, (), "rings", task="regression")
    monkeypatch.setitem(READERS, "rings", lambda name, split, root: drawn)
    prepared = prepare("rings")
    assert prepared.measures == ("R²", "rank correlation") and [len(part) for part in prepared.parts] == [84, 12, 24]
    outcome, artifact = train_method(parse_method("gin:dropout=0"), prepared, Budget(150, "steps"), seed=0)
    assert artifact is None and outcome.accuracy > 0.6 and outcome.macro_f1 > 0.7
