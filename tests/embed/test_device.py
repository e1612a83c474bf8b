"""Devices: what a thread may use, and what counts as too little memory."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from embed.backbones.device import is_out_of_memory, use_one_core


def omp_threads():
    """OpenMP threads of the calling thread, after an operation that would have split over cores."""
    torch.nn.functional.interpolate(
        torch.zeros(1, 3, 400, 400), size=(200, 200), mode="bicubic", antialias=True
    )
    return int(re.search(r"omp_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info()).group(1))


def test_one_core_for_the_thread_that_asks_and_no_other():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert omp_threads() == 2
        with ThreadPoolExecutor(1, initializer=use_one_core) as limited, ThreadPoolExecutor(1) as free:
            assert limited.submit(omp_threads).result() == 1
            assert free.submit(omp_threads).result() == 2
        assert omp_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_cpus_allocator_and_others():
    with pytest.raises(RuntimeError) as too_large:
        torch.empty(1 << 50)
    assert is_out_of_memory(too_large.value)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("x")) and is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as shapes:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(shapes.value)
    assert not is_out_of_memory(ValueError("out of memory"))
