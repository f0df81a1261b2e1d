import inspect

import pytest
from torch import nn

from ziggurat.nn.operators.drop_path_schedule import DropPathSchedule
from ziggurat.nn.operators.scheduled_drop_path import ScheduledDropPath


@pytest.mark.fact("nasnet", 4)
def test_the_callback_tells_the_progress_from_the_first_step_to_the_last():
    class Trainer:
        estimated_stepping_batches = 5
        global_step = 0

    network = nn.Sequential(ScheduledDropPath(0.3), nn.Sequential(ScheduledDropPath(0.1)))
    trainer, seen = Trainer(), []
    tell = inspect.unwrap(DropPathSchedule.on_train_batch_start)  # the trainer here is a stand-in
    for trainer.global_step in range(5):
        tell(DropPathSchedule(), trainer, network)
        seen.append((network[0].rate, network[1][0].rate))
    assert seen == [(pytest.approx(0.3 * t), pytest.approx(0.1 * t)) for t in (0, 0.25, 0.5, 0.75, 1)]
