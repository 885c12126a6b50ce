"""What the analysis costs, by pytest-benchmark.

pytest benchmarks/bench_analysis.py
"""

from gptbench import device, flops, presets
from gptbench.config import Workload


def test_counting_gpt2_xl(benchmark):
    config = presets.load("gpt2-xl")
    work = Workload(batch_size=1, seq_len=1024)
    assert benchmark(flops.step_flops, config, work).step == 10_520_110_694_400


def test_reading_every_preset(benchmark):
    assert "gpt2-xl" in benchmark(presets.catalogue)


def test_reading_the_peak_table(benchmark):
    assert len(benchmark(device.table)) > 100
