import pytest
import torch

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones.transformers import vit
from ziggurat.vision.backbones.transformers.vit import KEYS, ClassTokenViT, Tokens, ViT, blocks_of

COUNTS = {"tiny": 5_717_416, "small": 22_050_664, "base": 86_567_656, "large": 304_326_632}


@pytest.mark.fact("piip", 3)
@pytest.mark.parametrize("size", COUNTS)
def test_published_counts(size):
    with torch.device("meta"):
        original, averaged = getattr(vit, f"class_token_vit_{size}")(), getattr(vit, f"vit_{size}")()
    assert count_parameters(original) == COUNTS[size]
    assert (
        count_parameters(original) - count_parameters(averaged) == 2 * averaged.num_features
    )  # the token and its position
    if size == "tiny":
        image = torch.empty(1, 3, 224, 224, device="meta")
        tokens, hidden = 197, 192
        block = 12 * tokens * hidden**2 + 2 * tokens**2 * hidden
        assert macs(original, image) == 12 * block + 196 * 768 * hidden + 1000 * hidden


def restated(network, x):
    """The class-token transformer in plain operations."""
    from torch.nn.functional import gelu, layer_norm, linear

    def norm(y, layer):
        return layer_norm(y, y.shape[-1:], layer.weight, layer.bias, 1e-6)

    stem, patch = network.stem, network.stem.patch
    words = x.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    embed = stem.patch_embed.proj
    y = linear(words, embed.weight.flatten(1), embed.bias)
    y = torch.cat([stem.cls_token.expand(len(x), -1, -1), y], 1) + stem.pos_embed
    for block in network.blocks:
        attn, dim = block.attn, y.shape[2]
        q, k, v = linear(norm(y, block.norm1), attn.qkv.weight, attn.qkv.bias).split(dim, 2)
        heads = []
        for h in range(attn.heads):
            part = slice(h * dim // attn.heads, (h + 1) * dim // attn.heads)
            score = q[..., part] @ k[..., part].transpose(1, 2) / (dim / attn.heads) ** 0.5
            heads.append(score.softmax(2) @ v[..., part])
        y = y + linear(torch.cat(heads, 2), attn.proj.weight, attn.proj.bias)
        hidden = gelu(linear(norm(y, block.norm2), block.mlp.fc1.weight, block.mlp.fc1.bias))
        y = y + linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)
    return linear(norm(y, network.head.norm)[:, 0], network.head.fc.weight, network.head.fc.bias)


def test_class_token_transformer_against_a_plain_restatement():
    network = ClassTokenViT(16, 2, 4, 5, patch=4, image_size=12).double()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(network(x), restated(network, x))


def test_timm_names_load_by_the_key_map_with_none_left_over():
    network = ClassTokenViT(16, 2, 4, 5, patch=4, image_size=12)
    theirs = {}
    for name, value in network.state_dict().items():
        for ours, other in (("stem.", ""), ("head.norm.", "norm."), ("head.fc.", "head.")):
            name = other + name.removeprefix(ours) if name.startswith(ours) else name
        theirs[name] = value
    assert {"cls_token", "patch_embed.proj.bias", "blocks.1.attn.qkv.weight", "norm.weight", "head.bias"} <= set(theirs)
    assert set(translate(theirs, KEYS)) == set(network.state_dict())


def test_averaged_transformer_is_stem_blocks_norm_mean():
    network, x = ViT(16, 4, 4, 5, patch=4, image_size=12).eval(), torch.randn(2, 3, 12, 12)
    tokens = network.stem(x)
    for block in blocks_of(network):
        tokens = block(tokens)
    vector = network.head.norm(tokens.tokens).mean(1)
    torch.testing.assert_close(network(x), network.head.classifier.fc(vector))
    features = network.forward_features(x)
    assert len(features) == 4 and torch.equal(features[-1], tokens.x)
    assert torch.equal(tokens.x[:, :, 1, 2], tokens.tokens[:, 5])


def test_tokens_take_a_new_map_and_keep_what_stands_in_front():
    given = Tokens(torch.randn(2, 7, 4), (2, 3))
    changed = given.with_map(2 * given.x)
    assert torch.equal(changed.tokens[:, 0], given.tokens[:, 0]) and torch.equal(changed.x, 2 * given.x)
    assert torch.equal(given.with_map(given.x).tokens, given.tokens)


@pytest.mark.parametrize("make", (ViT, ClassTokenViT))
def test_any_size_goes_and_positions_follow_the_grid(make):
    network = make(16, 4, 4, 5, patch=4, image_size=16).eval()
    for height, width in ((16, 16), (17, 30), (3, 3)):
        tokens = network.stem(torch.rand(2, 3, height, width))
        assert tokens.grid == (-(-height // 4), -(-width // 4))
        assert network(torch.rand(2, 3, height, width)).shape == (2, 5)
    x = torch.rand(1, 3, 17, 30)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 3))
    torch.testing.assert_close(network(x), network(padded))


def test_activations_stay_bounded_with_depth_at_the_start():
    features = ViT(64, 24, 4, patch=4, image_size=32).forward_features(torch.randn(4, 3, 32, 32))
    spread = [float(feature.detach().std()) for feature in features]
    assert max(spread) / min(spread) < 3


def test_mistakes_are_named():
    with value_error("cannot be shared among 4 stages"):
        ViT(16, 6, 4)
    with value_error("cannot be shared among 5 heads"):
        ClassTokenViT(16, 4, 5)
