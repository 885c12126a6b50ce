"""A GPU's time: an instant to one of those that run, an idle one to who kept it waiting."""

import random
from collections import Counter

import pytest

from gptbench.profiling import BUSY
from gptbench.worker import streams
from gptbench.worker.events import DATA, MODULE, STEP, Event
from gptbench.worker.streams import Run
from gptbench.worker.work import Call


def ran(start, end, kind, launch=None):
    return Run(start, end, kind, (kind, "key"), launch)


def test_at_every_instant_of_random_timelines_the_first_class_has_it():
    chance = random.Random(1)
    for _ in range(300):
        start = chance.randrange(50)
        end = start + chance.randrange(1, 200)
        runs = []
        for _ in range(chance.randrange(20)):
            begin = chance.randrange(-20, 250)
            kind = chance.choice(BUSY)
            runs.append(
                ran(begin, begin + chance.randrange(50), kind, begin - chance.randrange(40))
            )
        expected = Counter()
        for instant in range(start, end):
            live = [r.kind for r in runs if r.start <= instant < r.end]
            expected[min(live, key=BUSY.index) if live else "idle"] += 1
        found = Counter()
        for key, ns in streams.sweep(start, end, runs, []).items():
            found[key[0] if len(key) > 1 else "idle"] += ns
        assert found == expected


def test_a_copy_beside_a_product_is_hidden_and_its_rest_exposed():
    found = streams.sweep(0, 100, [ran(0, 60, "gemm"), ran(40, 100, "communication")], [])
    assert found == {("gemm", "key"): 60, ("communication", "key"): 40}


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        (30, {("host",): 30, ("launch",): 20}),  # came late, and then waited
        (-5, {("launch",): 50}),  # was there all the time
        (50, {("host",): 50}),
        (None, {("host",): 50}),
    ],
)
def test_idle_time_is_the_hosts_until_the_next_kernel_is_launched(launch, expected):
    found = streams.sweep(0, 100, [ran(50, 100, "gemm", launch)], [])
    assert found == {("gemm", "key"): 50, **expected}


def test_the_hosts_fault_has_the_name_of_what_it_waited_for():
    waits = [(10, 25, "data"), (25, 30, "sync"), (45, 70, "data")]
    found = streams.sweep(0, 100, [ran(50, 100, "gemm", 40)], waits)
    assert found == {
        ("gemm", "key"): 50,
        ("host",): 20,
        ("data",): 15,
        ("sync",): 5,
        ("launch",): 10,
    }


def test_behind_the_last_kernel_is_the_tail():
    assert streams.sweep(0, 100, [ran(0, 70, "gemm")], [])["tail",] == 30


# -- a whole session ----------------------------------------------------------------------------


def call(name, shapes):
    return Call(name, shapes, ("float",) * len(shapes), (None,) * len(shapes))


def steps(count, lost=()):
    """Steps of 1000: a product of 400 that a module makes, a copy of 100, a kernel of its own."""
    for step in range(count):
        at, number = step * 1000, 10 * step
        yield Event(name=STEP, start=at, end=at + 300)
        yield Event(name=DATA, start=at + 100, end=at + 150)
        yield Event(name=f"{MODULE}up: Linear", start=at + 10, end=at + 60)
        product = call("aten::mm", ((4, 8), (8, 2)))
        yield Event(
            name="aten::mm", start=at + 20, end=at + 50, correlation=number + 1, call=product
        )
        for i, (name, begin, end) in enumerate(
            (("nvjet_tst_128x256", 500, 900), ("Memcpy HtoD (Pinned -> Device)", 900, 1000),
             ("riddle", 1100, 1150))
        ):  # fmt: skip
            launch = number + 5 + i
            yield Event(name="cudaLaunchKernel", start=at + 30 + i, end=at + 31 + i,
                        where="runtime", correlation=launch)  # fmt: skip
            if launch in lost:
                continue
            linked = number + 1 if i == 0 else 0
            yield Event(name=name, start=at + begin, end=at + end, where="device",
                        correlation=launch, linked=linked)  # fmt: skip


def test_a_step_is_from_its_first_kernel_to_the_next_ones():
    """Of five steps the first and the last are left out."""
    found = streams.on_gpu([list(steps(5))])
    assert found.step_ns == (1000, 1000, 1000)
    times = {w.kind: w.ns for w in found.work}
    assert times["gemm"] == (400, 400, 400)
    assert times["copy"] == (100, 100, 100)
    assert times["other"] == (50, 50, 50)
    for index in range(3):
        assert sum(w.ns[index] for w in found.work) == 1000


def test_a_kernel_is_of_the_operator_and_module_that_launched_it():
    found = streams.on_gpu([list(steps(5))])
    (product,) = [w for w in found.work if w.kind == "gemm"]
    assert (product.operator, product.module, product.calls) == ("aten::mm", "up", 1)
    assert product.flops == 2 * 4 * 8 * 2
    assert [(m.path, m.calls) for m in found.modules] == [("up", 1)]


def test_sessions_are_divided_each_for_itself():
    """No step reaches over the pause between two sessions."""
    assert streams.on_gpu([list(steps(4)), list(steps(4))]).step_ns == (1000,) * 4


def test_a_launch_without_a_kernel_is_a_record_that_was_dropped():
    found = streams.on_gpu([list(steps(5, lost=(17, 27)))])
    assert (found.launches, found.dropped) == (9, 2)


def test_the_first_step_may_have_lost_its_kernels():
    assert streams.on_gpu([list(steps(5, lost=(6, 7)))]).dropped == 0


def test_a_session_without_kernels_has_no_step():
    assert streams.on_gpu([[Event(name=STEP, start=0, end=10)]]).step_ns == ()
