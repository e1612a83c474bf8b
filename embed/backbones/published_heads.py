"""Heads that others have published for CLIP: where they are, what they belong to, and how they get here.

Nothing of them comes with the project. One is fetched when it is first asked for, by pooch, into the user's
folder of caches, and checked: against its SHA-256 where we know it, else against what was fetched the first
time, which is then all the trust there is. The file is read as all weights are (`laion.read_head`): no code
in it runs, and what is no whole head is not kept.
"""

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from embed.backbones.spec import BackboneError
from store.durable import make_folder, sole_writer, whole_file
from store.errors import StoreError

logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 2**20
"""The largest of these heads has 4 MB."""
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 30.0


class HeadUnavailable(BackboneError):  # noqa: N818
    """A published head is not on this machine and cannot be fetched, or what came is not it."""


@dataclass(frozen=True)
class PublishedHead:
    """A head that others keep."""

    name: str
    what: str
    url: str
    backbone: str
    """The only backbone whose features it may score."""
    licence: str
    sha256: str = ""
    """Of its file; '' where no digest is known to us."""
    is_fetched: bool = True
    """False: named only, because its licence or its form keep it out."""
    output: str = "embedding"

    @property
    def file(self) -> str:
        """Name of its file."""
        return self.url.rpartition("/")[2]

    @property
    def trust(self) -> str:
        """What a fetched file is checked against."""
        return "SHA-256 known" if self.sha256 else "no SHA-256 known: that of the first fetch is trusted"


_LINEAR = "https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_{}_linear.pth"
_IMPROVED = "https://github.com/christophschuhmann/improved-aesthetic-predictor"
_HEADS = (
    PublishedHead(
        "laion-b32", "LAION aesthetic predictor, linear", _LINEAR.format("b_32"), "vit_b32.openai", "MIT",
        "c7b14cead230694acc7b9447974d3cad78003c72da032e402a303b6c2429e85f",
    ),
    PublishedHead(
        "laion-b16", "LAION aesthetic predictor, linear", _LINEAR.format("b_16"),
        "open_clip:ViT-B-16-quickgelu/openai", "MIT",
    ),
    PublishedHead(
        "laion-l14", "LAION aesthetic predictor, linear", _LINEAR.format("l_14"), "vit_l14.openai", "MIT"
    ),
    PublishedHead(
        "laion-l14-mlp", "improved aesthetic predictor, MLP (SAC, logos, AVA)",
        f"{_IMPROVED}/raw/main/sac+logos+ava1-l14-linearMSE.pth", "vit_l14.openai", "see its repository",
    ),
    PublishedHead(
        "aesthetic-v2.5", "aesthetic predictor v2.5",
        "https://github.com/discus0434/aesthetic-predictor-v2-5", "google/siglip-so400m-patch14-384",
        "AGPL-3.0", is_fetched=False,
    ),
)  # fmt: skip
PUBLISHED: dict[str, PublishedHead] = {head.name: head for head in _HEADS}
"""Published heads by the name under which `iaa rank --head` takes them."""


def fetch_head(
    head: PublishedHead, folder: Path, on_bytes: Callable[[int], object] | None = None
) -> tuple[Path, str]:
    """The file of a published head in a folder of caches, fetched where it is not there, and its SHA-256.

    A second process waits for the first and takes its file. `on_bytes(n)` is called as bytes come.
    Raises HeadUnavailable, which says which file is wanted, from where and to where.
    """
    if not head.is_fetched:
        raise HeadUnavailable(
            f"{head.name} ({head.what}) is under {head.licence} and belongs to {head.backbone}: it is "
            f"neither shipped nor fetched nor read here. Its author keeps it at {head.url}"
        )
    make_folder(folder)
    turn = folder / f"{head.name}.fetching"
    with sole_writer(turn):
        try:
            return _fetched(head, folder, on_bytes)
        finally:
            with suppress(OSError):
                turn.unlink(missing_ok=True)


def _fetched(head: PublishedHead, folder: Path, on_bytes: Callable[[int], object] | None) -> tuple[Path, str]:
    from embed.backbones.laion import LaionHeadError, read_head
    from embed.backbones.weights import file_sha256

    path, record = folder / head.file, folder / f"{head.file}.sha256"
    expected = head.sha256 or _recorded(record)
    there = file_sha256(path) if path.is_file() else ""
    scratch = folder / f"{head.name}.download"
    if there and there == (expected or there):
        try:
            read_head(path)
        except LaionHeadError as error:
            raise HeadUnavailable(f"{head.name}: {error}. Remove it, then ask again: {path}") from error
    else:
        try:
            got = _download(head, expected, scratch, on_bytes)
            read_head(got)
            with whole_file(path) as partial:
                partial.write_bytes(got.read_bytes())
        except (OSError, ValueError, LaionHeadError, StoreError) as error:
            raise HeadUnavailable(_unavailable(head, path, record, expected, there, error)) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # with what fetches that were killed have left
        there = file_sha256(path)
    if not expected:
        with whole_file(record) as partial:
            partial.write_text(f"{there}  {head.file}\n", encoding="utf-8")
        logger.warning(
            "%s: no digest of %s is known to us, so what is there now is taken on trust and later fetches "
            "must equal it (%s): SHA-256 %s", head.name, head.file, record, there,
        )  # fmt: skip
    return path, there


def _download(
    head: PublishedHead, expected: str, folder: Path, on_bytes: Callable[[int], object] | None
) -> Path:
    """The file in a folder of its own. Raises OSError for the network, ValueError for another digest."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    logger.info("fetching %s from %s", head.file, head.url)
    downloader = pooch.HTTPDownloader(
        progressbar=_Meter(head, on_bytes),
        timeout=(CONNECT_SECONDS, SILENT_SECONDS),
        hooks={"response": _stay_safe},
    )
    known = f"sha256:{expected}" if expected else None
    return Path(pooch.retrieve(head.url, known, head.file, folder, downloader=downloader))


class _Meter:
    """What pooch tells of the bytes that come; it stops what no head can be."""

    def __init__(self, head: PublishedHead, on_bytes: Callable[[int], object] | None) -> None:
        self.total = 0
        self._head, self._on_bytes, self._n = head, on_bytes, 0

    def update(self, n: int) -> None:
        """`n` more bytes. Raises OSError where there are too many."""
        self._n += n
        if max(self._n, self.total) > MAX_BYTES:
            raise OSError(f"it has more than {MAX_BYTES:,} bytes, which no such head has")
        if self._on_bytes is not None:
            self._on_bytes(n)

    def reset(self) -> None:
        """All has come: pooch fills its bar now."""
        self._n, self._on_bytes = 0, None

    def close(self) -> None:
        """Nothing is held."""


def _stay_safe(response: Any, **_: object) -> None:
    """Raise OSError where a server leads from https to something without."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        if urlsplit(response.url).scheme == "https" and urlsplit(target).scheme != "https":
            raise OSError(f"the server leads from https to {target}, which nobody vouches for")


def _recorded(record: Path) -> str:
    """The digest that the first fetch had; '' before."""
    if not record.is_file():
        return ""
    digest = record.read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise HeadUnavailable(f"{record} holds no SHA-256 ({digest[:70]!r}). Remove it to trust a fetch anew")
    return digest


def _unavailable(
    head: PublishedHead, path: Path, record: Path, expected: str, there: str, error: Exception
) -> str:
    said = f"{head.name}: {head.file} did not come from {head.url}: {_reason(error)}."
    if "does not match" in str(error):
        origin = "known to us" if head.sha256 else f"of the first fetch, kept in {record}"
        said = (
            f"{head.name}: {head.url} gave another file than {head.file}: expected the SHA-256 {origin}, "
            f"{expected} ({error}). Nothing of it was kept."
        )
        if not head.sha256:
            said += f" If its authors changed it and you trust that: remove {record}."
    if there:
        said += f" The file that lies at {path} is another one, too (SHA-256 {there})."
    return (
        f"{said} On a machine with a network: curl -L -o '{head.file}' '{head.url}'; then put it to {path}, "
        f"or iaa head import FILE --backbone {head.backbone} --save {head.name}"
    )


def _reason(error: Exception) -> str:
    from requests import exceptions

    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke before all of it had come"
    if isinstance(error, exceptions.Timeout):
        return f"no answer within {SILENT_SECONDS:g} seconds"
    if isinstance(error, exceptions.ConnectionError):
        asked = "" if error.request is None else str(error.request.url)
        return f"no connection to {urlsplit(asked).hostname or 'its server'}"
    return str(error)[:300]
