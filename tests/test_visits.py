"""Visits: a step that is held, run when it is told to, with its times and losses."""

from itertools import count

import torch

from gptbench.worker import visits
from gptbench.worker.clock import HostClock


def test_a_visit_runs_its_steps_and_goes_on_where_the_last_one_ended():
    feed = (torch.tensor(float(i)) for i in count())
    visit = visits.visits(lambda batch: batch * 10, HostClock(), feed)
    assert [visit(2).losses, visit(3).losses] == [(0, 10), (20, 30, 40)]


def test_every_step_of_a_visit_has_its_time():
    feed = (torch.zeros(1) for _ in count())
    visit = visits.visits(lambda batch: batch.sum(), HostClock(), feed)
    taken = visit(5).step_ns
    assert len(taken) == 5
    assert min(taken) > 0
