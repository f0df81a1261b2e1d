"""All benchmarks, one after the other."""

import torch

from benchmarks import backbones, embeddings, graphs, inference, search, walks

if __name__ == "__main__":
    torch.set_num_threads(1)
    for part in (graphs, embeddings, walks, inference, search, backbones):
        part.main()
