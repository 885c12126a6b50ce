"""The power that a GPU is allowed, on which a calibration depends."""

from types import SimpleNamespace

import pytest

from gptbench.worker import telemetry

GPU = SimpleNamespace(uuid="11111111-2222-3333-4444-555555555555")


@pytest.fixture
def driver(monkeypatch):
    """NVML as it answers where there is a driver."""
    nvml = telemetry.pynvml
    asked = []

    def handle(uuid):
        asked.append(uuid)
        return "handle"

    monkeypatch.setattr(nvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(nvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByUUID", handle)
    monkeypatch.setattr(nvml, "nvmlDeviceGetEnforcedPowerLimit", lambda _: 700_000)
    return asked


def test_the_limit_is_in_watts_and_of_the_gpu_with_that_number(driver):
    assert telemetry._power_limit_w(GPU) == 700.0
    assert driver == ["GPU-11111111-2222-3333-4444-555555555555"]


def test_a_driver_that_does_not_tell_leaves_it_unknown(driver, monkeypatch):
    def refuses(_handle):
        raise telemetry.pynvml.NVMLError(telemetry.pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(telemetry.pynvml, "nvmlDeviceGetEnforcedPowerLimit", refuses)
    assert telemetry._power_limit_w(GPU) is None


def test_a_gpu_without_a_number_is_not_asked_for(driver):
    assert telemetry._power_limit_w(SimpleNamespace()) is None
    assert driver == []
