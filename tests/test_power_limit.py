"""The power that a GPU is allowed, on which a calibration depends."""

from fakes import FakeNvml
from gptbench.worker import nvml

UUID = "11111111-2222-3333-4444-555555555555"


def test_the_limit_is_in_watts_and_of_the_gpu_with_that_number():
    library = FakeNvml(
        **{"other": {"limit_milliwatts": 300_000}, UUID: {"limit_milliwatts": 700_000}}
    )
    assert nvml.power_limit_w(UUID, library) == 700.0


def test_a_driver_that_does_not_tell_leaves_it_unknown():
    assert nvml.power_limit_w(UUID, FakeNvml(**{UUID: {}})) is None


def test_a_gpu_without_a_number_is_not_asked_for():
    assert nvml.power_limit_w(None, FakeNvml(**{UUID: {"limit_milliwatts": 700_000}})) is None
