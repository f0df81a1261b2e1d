"""What parts hand on to each other in layer-local training."""

import torch

from tests.typecheck import value_error
from ziggurat.data.batch import map_tensors
from ziggurat.rules.mono_forward import MonoForward
from ziggurat.rules.stagewise import StagewiseMonoForward, representation
from ziggurat.vision.backbones.transformers.vit import Tokens, ViT


def test_named_tuples_are_cut_off_whole_and_keep_what_is_no_tensor():
    tokens = Tokens(torch.ones(1, 6, 4, requires_grad=True) * 2, (2, 3))
    cut = map_tensors((tokens, None), torch.Tensor.detach)
    assert isinstance(cut[0], Tokens) and cut[0].grid == (2, 3) and cut[1] is None
    assert not cut[0].tokens.requires_grad and torch.equal(cut[0].tokens, tokens.tokens)
    assert torch.equal(representation(tokens), tokens.x) and representation(tokens.x).shape == (1, 4, 2, 3)


def test_no_error_crosses_from_one_stage_of_a_transformer_to_the_one_before():
    torch.manual_seed(0)
    network = ViT(8, 4, 2, 3, patch=4, image_size=16)
    with value_error("StagewiseMonoForward trains them inside"):
        MonoForward(network, num_classes=3, input_shape=(3, 16, 16))
    learner = StagewiseMonoForward(network, 3)
    learner.goodness(torch.rand(2, 3, 16, 16))[-1].sum().backward()
    reached = [any(p.grad is not None for p in stage.parameters()) for stage in network.stages]
    assert reached == [False] * (len(reached) - 1) + [True]
