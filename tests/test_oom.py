"""What is out of memory, and what is a crash that must never be taken for it."""

import pytest
import torch

from gptbench.worker import oom

# Messages as the libraries raise them.
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ..."),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 86507520 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("could not create a memory object"),
    RuntimeError("std::bad_alloc"),
]
CRASHES = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)"),
    ValueError("out of memory"),
    KeyError("memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_every_way_to_say_out_of_memory_is_understood(error):
    assert oom.is_out_of_memory(error)


@pytest.mark.parametrize("error", CRASHES, ids=str)
def test_a_crash_is_not_taken_for_a_limit(error):
    assert not oom.is_out_of_memory(error)


def test_the_sentence_is_the_line_that_tells_and_not_the_whole_report():
    error = RuntimeError("Exception raised from x\n  CUDA out of memory. Tried 2 MiB.\n  frame #0")
    assert oom.sentence(error) == "CUDA out of memory. Tried 2 MiB."


def test_the_sentence_begins_with_who_says_it():
    assert oom.sentence(OUT_OF_MEMORY[2]).startswith("DefaultCPUAllocator: can't allocate memory")


def test_a_real_allocation_that_is_too_large_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert oom.is_out_of_memory(caught.value)
