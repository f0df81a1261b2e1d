import pytest
import torch

from tests.testing.broken import BROKEN, SOUND
from tests.typecheck import value_error
from ziggurat import catalogue
from ziggurat.testing import CONTRACTS, Reason, Skip, example, run_checks
from ziggurat.testing.examples import outputs

CHECKS = {check.__name__: check for checks in CONTRACTS.values() for check in checks}


def test_every_check_has_a_broken_example():
    assert {name for name, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize(("name", "subject"), BROKEN, ids=[f"{name}-{subject.name}" for name, subject in BROKEN])
def test_the_check_catches_it(name, subject, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_EXPORTS", "all")
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=f"{subject.name}, {name}: .{{20,}}"):
        run_checks(subject, (CHECKS[name],))


@pytest.mark.parametrize("subject", SOUND, ids=[subject.name for subject in SOUND])
def test_sound_examples_pass_everything(subject, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_EXPORTS", "all")
    results = run_checks(subject, CONTRACTS[subject.contract])
    assert set(results) == {check.__name__ for check in CONTRACTS[subject.contract]}
    assert all(result == "ran" or result in {reason.value for reason in Reason} for result in results.values())


def test_examples_are_repeatable_and_unknown_kinds_are_named():
    kinds = "image video pair graph graphs links hypergraph complex hops points sequence set table"
    for kind in kinds.split():
        for a, b in zip(outputs(example(kind, seed=3)), outputs(example(kind, seed=3)), strict=True):
            assert torch.equal(a, b)
    with value_error("no example of the kind 'smell'"):
        example("smell")
    assert Skip(Reason.NO_BATCH).reason.value == "the input is one graph, not a batch"


class TestCatalogue:
    def test_unknown_names_get_their_three_nearest(self):
        with value_error("resnet18, .*, "):
            catalogue.build("resnt18")

    def test_arguments_that_do_not_exist_are_refused(self):
        with value_error("no argument wings; it takes .*num_classes"):
            catalogue.build("resnet18", wings=2)
        with value_error("also needs in_features, num_classes"):
            catalogue.build("sgc")
        with value_error("build one of its variants: resnet18"):
            catalogue.build("resnet")

    def test_a_dotted_path_of_ones_own_works(self):
        assert catalogue.build("torch.nn.Linear", in_features=2, out_features=3).weight.shape == (3, 2)
        with value_error("package.module.Name"):
            catalogue.build("torch.nn.Nothing")

    def test_weights_of_others_are_read_strictly(self, tmp_path):
        from safetensors.torch import save_file

        network = catalogue.build("cifar_resnet20", num_classes=4)
        theirs = {}
        for name, value in network.state_dict().items():
            name = name.replace("stem.0.conv", "conv1").replace("stem.0.norm", "bn1").replace("head.fc", "linear")
            for stage in range(3):
                name = name.replace(f"stages.{stage}.", f"layer{stage + 1}.")
            theirs[name] = value.clone()
        save_file(theirs, tmp_path / "w.safetensors")
        other = catalogue.build("cifar_resnet20", weights=tmp_path / "w.safetensors", num_classes=4).eval()
        x = torch.rand(1, 3, 32, 32)
        assert torch.equal(other(x), network.eval()(x))
        with value_error("other shapes: head.fc.bias"):
            catalogue.build("cifar_resnet20", weights=tmp_path / "w.safetensors", num_classes=5)
        save_file({**theirs, "extra": torch.zeros(1)}, tmp_path / "x.safetensors")
        with value_error("left over \\['extra'\\]"):
            catalogue.build("cifar_resnet20", weights=tmp_path / "x.safetensors", num_classes=4)
        with value_error("no file of weights"):
            catalogue.build("cifar_resnet20", weights=tmp_path / "none.pt")
