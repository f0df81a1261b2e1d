"""All benchmarks, one after the other."""

import torch

from benchmarks import (
    backbones,
    embeddings,
    graphs,
    inference,
    large_graphs,
    memory,
    metric,
    search,
    shares,
    swivel,
    walks,
    window_search,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for part in (
        graphs, large_graphs, embeddings, walks, swivel, metric, inference, search, window_search, memory, shares, backbones
    ):  # fmt: skip
        part.main()
