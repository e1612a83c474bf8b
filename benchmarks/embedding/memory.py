"""Peak memory of a run, which must not depend on how many images there are."""

import multiprocessing
import resource
import tempfile
from pathlib import Path

from benchmarks.embedding.images import linked_table
from benchmarks.embedding.models import four_small_vits
from embed.images.datasets import ImageTable
from embed.pipeline import Options, embed_images

FEW, MANY = 2_000, 20_000


def measure(table: ImageTable, work: Path) -> None:
    """Print the peaks of a run over FEW and over MANY images, each in a process of its own."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        peaks = [_peak_in_process(linked_table(table, Path(folder) / str(n), n)) for n in (FEW, MANY)]
    print(f"\npeak resident memory: {peaks[0]:.0f} MB for {FEW:,} images, {peaks[1]:.0f} MB for {MANY:,}")
    verdict = "met" if peaks[1] <= 1.1 * peaks[0] else "MISSED"
    print(f"  ratio {peaks[1] / peaks[0]:.3f}, goal at most 1.1 {verdict}", flush=True)


def _peak_in_process(table: ImageTable) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (table,))


def _peak(table: ImageTable) -> float:
    """Peak resident memory in MB of this process after one run with four cheap backbones."""
    with tempfile.TemporaryDirectory() as folder:
        embed_images(table, four_small_vits(), Path(folder), Options())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
