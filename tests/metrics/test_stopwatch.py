import time

import torch

from tests.typecheck import value_error
from ziggurat.metrics.stopwatch import least_milliseconds


def test_the_shortest_call_counts():
    waits = iter([0.03, 0.0, 0.03])
    modes = []

    def call():
        modes.append(torch.is_inference_mode_enabled())
        time.sleep(next(waits))

    assert least_milliseconds(call) < 25
    assert modes == [True] * 3
    with value_error("1 or more"):
        least_milliseconds(call, 0)
