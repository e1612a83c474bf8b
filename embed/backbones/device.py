"""Which device computes, and what to call it."""


import torch
from threadpoolctl import threadpool_limits

from store.system import n_cores


class DeviceError(Exception):
    """The device asked for is not there."""


def pick_device(requested: str = "auto") -> torch.device:
    """The device to use: `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises DeviceError if a device that was asked for is not there.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise DeviceError(
            f"device {requested!r} cannot be used ({str(error).splitlines()[0]}); "
            f"found here: {', '.join(found)}"
        ) from error
    return device


def describe_device(device: torch.device) -> str:
    """A line for people: `cuda:0 (NVIDIA ...)` or `cpu (2 threads; no GPU found)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    gpu = "" if torch.cuda.is_available() else "; no GPU found"
    return f"{device} ({torch.get_num_threads()} threads of {n_cores()} cores{gpu})"


def use_one_core() -> None:
    """Let torch operations of the calling thread run in this thread alone.

    Decoding is parallel over images. A resize that is split over cores as well keeps the others waiting
    actively: three times the processor time of the same work. Other threads keep their number
    (`torch.set_num_threads` would change MKL for all of them).
    """
    torch.get_num_threads()  # torch sets a new thread's number on first use; afterwards ours stays
    threadpool_limits(1, user_api="openmp")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device (or the CPU's allocator) had too little memory for what was asked."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def free_memory(device: torch.device | str) -> None:
    """Give a GPU's cached, unused memory back, so that smaller pieces find room."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    elif torch.device(device).type == "mps":
        torch.mps.empty_cache()
