"""All benchmarks, one after the other."""

import torch

from benchmarks import backbones, embeddings, graphs, inference, search

if __name__ == "__main__":
    torch.set_num_threads(1)
    for part in (graphs, embeddings, inference, search, backbones):
        part.main()
