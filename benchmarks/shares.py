"""Where the time of an inference goes, by operator: ResNet-50, VGG-16, MobileNetV2, as they come and folded. python -m benchmarks.shares"""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from ziggurat import catalogue
from ziggurat.nn import fuse

NETWORKS, REPEATS, SHOWN = ("resnet50", "vgg16", "mobilenet_v2"), 5, 5


def shares(name: str, folded: bool) -> list[tuple[str, float]]:
    """(operator, share of the time), the largest first."""
    torch.manual_seed(0)
    network, x = catalogue.build(name).eval(), torch.rand(1, 3, 224, 224)
    if folded:
        network, x = fuse(network).to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(x)
        with profile(activities=[ProfilerActivity.CPU]) as measured:
            for _ in range(REPEATS):
                network(x)
    rows = [(row.key.removeprefix("aten::"), row.self_cpu_time_total) for row in measured.key_averages()]
    total = sum(time for _, time in rows)
    return sorted(((key, time / total) for key, time in rows), key=lambda row: -row[1])[:SHOWN]


def main() -> None:
    """The five largest operators of each."""
    for name in NETWORKS:
        for folded in (False, True):
            told = ", ".join(f"{key} {100 * share:.0f} %" for key, share in shares(name, folded))
            print(f"{name:14} {'folded, channels last' if folded else 'as it comes':22} {told}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
