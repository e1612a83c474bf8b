"""The thread that keeps a gallery up to date: it lists the photographs, reads what is known of them, starts
the run that embeds what is not embedded, and takes in what that run finishes, part by part."""

import logging
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from iaa.library.gallery.choosing import check_photographs, choose_backbone, dataset_of, new_name
from iaa.library.gallery.embedder import Embedder
from iaa.library.gallery.gallery import Gallery
from iaa.library.gallery.listing import Listing
from iaa.library.gallery.processes import HelperDied
from iaa.library.gallery.viewing import headers_of
from iaa.library.layout import Layout
from store import BusyError, StoreError, open_features
from store.begun import Begun, open_begun
from store.locks import lock_path, write_lock
from store.looks import Looks

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_OTHER_SECONDS = 2.0
_HEADERS_AT_ONCE = 200


class Keeper:
    """Keeps one gallery. `start` returns at once; `close` ends everything and loses nothing finished."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._embedder: Embedder | None = None
        self._wants_run = gallery.settings.is_embedding
        self._end, self._wake = threading.Event(), threading.Event()
        self._begun: dict[Path, Begun] = {}
        self._digest = ""
        self._threads = [
            threading.Thread(target=self._keep, name="keep", daemon=True),
            threading.Thread(target=self._measure, name="measure", daemon=True),
        ]
        self._is_known = threading.Event()

    def start(self) -> None:
        """Begin, in the background."""
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Stop embedding; what is finished is kept."""
        self._wants_run = False
        if self._embedder is not None:
            self._embedder.stop()

    def go_on(self) -> None:
        """Go on with embedding; photographs that came or changed since are found, too."""
        self._wants_run = True
        self._wake.set()

    def close(self) -> None:
        """End everything."""
        self._end.set()
        self._wake.set()
        self._is_known.set()
        self.pause()
        self._threads[0].join(10)
        if self._embedder is not None and not self._embedder.wait(0.0):
            self._embedder.kill()
        self.gallery.close()

    def _keep(self) -> None:
        is_prepared = False
        while not self._end.is_set():
            try:
                if not is_prepared:
                    self._prepare()
                    is_prepared = True
                self._work()
            except HelperDied:
                return  # the page is being closed
            except Exception as error:
                logger.info("the gallery could not be brought up to date", exc_info=error)
                self.gallery.say("failed", str(error))
                self.gallery.bump(is_now=True)
            self._wake.wait()
            self._wake.clear()

    def _work(self) -> None:
        if self._wants_run:
            self._wants_run = False
            self._run()
        else:
            self.gallery.say("ready", "")
        self._fill()

    def _prepare(self) -> None:
        from embed.images.datasets import add_dataset

        settings = self.gallery.settings
        name = settings.name
        if name is None:
            assert settings.folder is not None
            folder = settings.folder.resolve()
            name = dataset_of(settings.root, folder)
            if name is None:
                name = new_name(settings.root, folder)
                add_dataset(settings.root, name, "folder", images=str(folder))
        layout = Layout(settings.root, name)
        check_photographs(layout)
        self.gallery.layout = layout
        self.gallery.looks = Looks(layout.looks)
        self._list()
        self.gallery.bump(is_now=True)
        self.gallery.backbone = choose_backbone(layout, settings.backbone)
        self._take_in(is_final=True)
        self.gallery.bump(is_now=True)
        self._is_known.set()

    def _list(self) -> None:
        """The list as it is now, if it is another."""
        from embed.images.changes import Changes
        from embed.images.datasets import build_table, load_config

        gallery = self.gallery
        assert gallery.layout is not None
        config = load_config(gallery.layout.root, gallery.layout.dataset)
        table = build_table(config)
        now = Changes(table).now
        if gallery.listing is None or gallery.listing.digest != table.digest:
            self._begun, self._digest = {}, ""
            gallery.take_list(Listing(table), now)
        elif gallery.take_times(now):
            # What was taken in meanwhile left out the photographs whose size was another than listed.
            self._begun, self._digest = {}, ""

    def _take_in(self, is_final: bool = False) -> None:
        """What is finished and was not taken in yet: the feature file, parts of runs, looks."""
        gallery = self.gallery
        assert gallery.layout is not None
        path = gallery.layout.features_of(gallery.backbone)
        if path.exists():
            try:
                self._take_features(path)
            except StoreError:  # it may have been replaced while it was read
                if is_final:
                    self._take_features(path)
        for begun_path in (path, path.parent / "update" / path.name):
            with suppress(StoreError, OSError):
                self._take_parts(begun_path)
        gallery.take_looks()

    def _take_features(self, path: Path) -> None:
        with open_features(path) as features:
            if features.digest != self._digest:
                self.gallery.take_features(features)
                self._digest, self._begun = features.digest, {}

    def _take_parts(self, path: Path) -> None:
        begun = self._begun.get(path) or open_begun(path)
        if begun is None:
            return
        self._begun[path] = begun
        for part in begun.new_parts():
            with part:
                ids = begun.image_id[part.start : part.start + len(part)]
                self.gallery.take_part(part, ids, path, begun.identity, begun.plan.provenance)

    def _run(self) -> None:
        """Embed what is not embedded, and take in what gets finished meanwhile."""
        gallery = self.gallery
        gallery.say("starting", f"starting to look at the photographs with {gallery.backbone}")
        embedder = self._embedder = Embedder(self._arguments())
        if self._end.is_set():
            embedder.stop()
        while not embedder.wait(_POLL_SECONDS):
            self._take_in()
            self._tell(embedder)
            gallery.bump()
        self._list()
        self._take_in(is_final=True)
        if embedder.is_busy and not embedder.is_stopped:
            self._wait_for_another(embedder.error)
        elif embedder.is_stopped:
            gallery.say("stopped", "paused; what is finished is kept")
        elif embedder.error:
            gallery.say("failed", embedder.error)
        else:
            gallery.say("ready", "")
        gallery.bump(is_now=True)

    def _arguments(self) -> list[str]:
        """Options of the run, such that its rows fit those that are there."""
        gallery, settings = self.gallery, self.gallery.settings
        assert gallery.layout is not None
        arguments = ["--dataset", gallery.layout.dataset, "--data", str(gallery.layout.root)]
        arguments += ["--backbone", gallery.backbone, "--device", settings.device]
        if settings.weights is not None:
            arguments += ["--weights", str(settings.weights)]
        if gallery.made_by is not None:
            made = gallery.made_by.identity
            if made.get("preprocessing", {}).get("decoder") == "pillow":
                arguments.append("--exact")
            if made.get("precision", "float32") != "float32":
                arguments += ["--precision", str(made["precision"])]
        return arguments

    def _wait_for_another(self, said: str) -> None:
        """Another program embeds the same photographs: take in what it finishes, and go on when it ends."""
        gallery = self.gallery
        assert gallery.layout is not None
        lock = lock_path(gallery.layout.features_of(gallery.backbone))
        while not self._end.wait(_OTHER_SECONDS):
            self._take_in()
            gallery.say("embedding", said)
            gallery.bump()
            try:
                with write_lock(lock):
                    break
            except BusyError:
                continue
        self._wants_run = True
        self._wake.set()

    def _tell(self, embedder: Embedder) -> None:
        progress, state = embedder.progress, self.gallery.state
        if not progress.is_working:
            return
        with self.gallery.lock:
            state.phase, state.message = (
                "embedding",
                f"looking at the photographs with {self.gallery.backbone}",
            )
            state.total = max(len(self.gallery), progress.n_done)
            state.done, state.failed = progress.n_done, progress.n_failed
            state.rate = embedder.rate
            state.seconds_left = (state.total - state.done) / state.rate if state.rate else None

    def _measure(self) -> None:
        """Size and capture time of every photograph by its header: the page can lay them out long before
        they are decoded."""
        self._is_known.wait()
        gallery = self.gallery
        listing = gallery.listing
        if listing is None:
            return
        for start in range(0, len(listing), _HEADERS_AT_ONCE):
            stop = min(start + _HEADERS_AT_ONCE, len(listing))
            rows = [row for row in range(start, stop) if not gallery.rows.has_look[row]]
            if self._end.is_set() or gallery.listing is not listing:
                return
            if rows:
                try:
                    found = gallery.viewers.call(headers_of, [listing.at(row) for row in rows])
                except HelperDied:  # one of them crashed it, or the page is being closed
                    continue
                gallery.take_headers((row, *header) for row, header in zip(rows, found, strict=True))
                gallery.bump()

    def _fill(self) -> None:
        """Thumbnails of photographs that have none although they are embedded: they were embedded without a
        page, or the file of thumbnails was lost. Ends when something else is to be done."""
        gallery = self.gallery
        for row in np.flatnonzero(gallery.rows.is_incomplete()).tolist():
            if self._end.is_set() or self._wake.is_set():
                return
            gallery.make_look(row, is_quick=False)
            gallery.bump()
        gallery.bump(is_now=True)
