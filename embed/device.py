"""Which device computes, and what to call it."""

import os

import torch


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
    return f"{device} ({torch.get_num_threads()} threads of {os.cpu_count()} cores{gpu})"
