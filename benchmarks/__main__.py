"""All benchmarks, one after the other."""

import torch

from benchmarks import (
    backbones,
    embeddings,
    graphs,
    inference,
    large_graphs,
    memory,
    search,
    shares,
    walks,
    window_search,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for part in (graphs, large_graphs, embeddings, walks, inference, search, window_search, memory, shares, backbones):
        part.main()
