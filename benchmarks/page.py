"""How fast the page's server answers, on a planted library: the list, orders by vector, a thumbnail, the map.

    python benchmarks/page.py [--rows 100000] [--dim 512] [--repeats 50]

Real requests to a real server on this machine, one after the other; nothing is embedded. Beside the query by
vector stands what numpy alone takes for the product of the same matrix with one vector, and for that and a
sort.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # a file beside this has the name of a package

import numpy as np  # noqa: E402

from iaa.library.gallery.gallery import Settings  # noqa: E402
from iaa.library.gallery.listing import key_of  # noqa: E402
from iaa.web.serving import Page  # noqa: E402
from store import Status  # noqa: E402
from store.features import FEATURES_SCHEMA  # noqa: E402
from store.looks import Look, Looks  # noqa: E402
from store.sealed import write_sealed  # noqa: E402

TOKEN = "a-token-of-the-benchmark"


def plant(root: Path, n: int, dim: int) -> None:
    """A data set of `n` names, empty files all, with vectors and thumbnails as if they were photographs."""
    photographs, dataset = root / "photographs", root / "data" / "planted"
    photographs.mkdir()
    dataset.mkdir(parents=True)
    names = np.array([f"{i:07d}.jpg" for i in range(n)])
    for name in names.tolist():
        (photographs / name).touch()
    (dataset / "dataset.toml").write_text(f'kind = "folder"\nimages = "{photographs}"\n')
    rng = np.random.default_rng(0)
    sha256 = rng.integers(1, 256, (n, 32), dtype=np.uint8)
    arrays = {
        "image_id": names,
        "status": np.full(n, Status.OK, np.uint8),
        "source_sha256": sha256,
        "source_size": np.zeros(n, np.int64),
        "failures/row": np.zeros(0, np.int64),
        "failures/reason": np.zeros(0, dtype=str),
        "outputs/embedding": rng.normal(size=(n, dim)).astype(np.float32),
    }
    path = dataset / "features" / "planted.h5"
    write_sealed(path, FEATURES_SCHEMA, {"backbone": "planted", "n_images": n}, {}, arrays)
    jpeg = rng.integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    with Looks(dataset / "derived" / "thumbnails.sqlite") as looks:
        for start in range(0, n, 1000):
            some = sha256[start : start + 1000]
            looks.put(Look(row.tobytes(), 480, 320, "#808080", 1.0, jpeg=jpeg) for row in some)


def milliseconds(act: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and 95th percentile; one call before that is not counted."""
    act()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken)), float(np.percentile(taken, 95))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        plant(Path(folder), arguments.rows, arguments.dim)
        settings = Settings(Path(folder) / "data", "planted", is_embedding=False)
        page = Page(settings, token=TOKEN)
        started = time.perf_counter()
        threading.Thread(target=page.run, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", page.address.port)

        def get(path: str) -> bytes:
            connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status in (200, 202), body
            return body

        while (state := json.loads(get("/api/state")))["phase"] != "ready":
            assert state["phase"] != "failed", state
            time.sleep(0.05)
        opened = time.perf_counter() - started
        key = key_of("0000007.jpg")
        matrix = page.keeper.gallery.matrix("embedding").rows
        query = matrix[7].copy()
        rows = {
            "numpy: the bare product": lambda: matrix @ query,
            "numpy: product and sort": lambda: np.argsort(-(matrix @ query), kind="stable"),
            "query by vector (likeness)": lambda: get(f"/api/order?by=search&like={key}"),
            "order by sharpness": lambda: get("/api/order?by=sharpness"),
            "the whole list": lambda: get("/api/photographs"),
            "state": lambda: get("/api/state"),
            "facts": lambda: get(f"/api/photographs/{key}"),
            "thumbnail": lambda: get(f"/api/photographs/{key}/thumbnail"),
        }
        print(f"{arguments.rows:,} photographs, {arguments.dim} dimensions; opened in {opened:.1f} s")
        print(f"| {'answer':<28} | median ms | p95 ms |\n| --- | ---: | ---: |")
        for name, act in rows.items():
            median, late = milliseconds(act, arguments.repeats)
            print(f"| {name:<28} | {median:9.1f} | {late:6.1f} |", flush=True)
        started = time.perf_counter()
        while "rows" not in json.loads(get("/api/map")):
            time.sleep(0.05)
        print(f"| {'map (once)':<28} | {1000 * (time.perf_counter() - started):9.0f} | |")
        page.stop()


if __name__ == "__main__":
    main()
