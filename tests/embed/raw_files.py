"""Raw files made by hand: DNG as the specification has it, uncompressed, with or without a preview."""

import struct

import numpy as np

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SIGNED = 1, 2, 3, 4, 5, 10
_FORMATS = {_BYTE: "B", _ASCII: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "II", _SIGNED: "ii"}


def make_dng(
    rgb: np.ndarray, preview: bytes = b"", preview_size: tuple[int, int] = (0, 0), flip: int = 1
) -> bytes:
    """A DNG whose sensor saw `rgb` (height, width, 3; even edges) through a red-green-green-blue filter.

    `preview` is a JPEG of `preview_size` (width, height); `flip` the EXIF orientation.
    """
    height, width, _ = rgb.shape
    mosaic = np.empty((height, width), "<u2")
    linear = ((rgb / 255.0) ** 2.2 * 60000).astype("<u2")
    for (row, column), channel in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        mosaic[row::2, column::2] = linear[row::2, column::2, channel]
    camera_of_srgb = [0.4124, 0.3576, 0.1805, 0.2126, 0.7152, 0.0722, 0.0193, 0.1192, 0.9505]
    camera = np.linalg.inv(np.array(camera_of_srgb).reshape(3, 3)).ravel()
    sensor = {
        254: (_LONG, [0]), 256: (_LONG, [width]), 257: (_LONG, [height]), 258: (_SHORT, [16]),
        259: (_SHORT, [1]), 262: (_SHORT, [32803]), 271: (_ASCII, b"Testcam\0"), 272: (_ASCII, b"One\0"),
        273: (_LONG, ["pixels"]), 274: (_SHORT, [flip]), 277: (_SHORT, [1]), 278: (_LONG, [height]),
        279: (_LONG, [mosaic.nbytes]), 33421: (_SHORT, [2, 2]), 33422: (_BYTE, [0, 1, 1, 2]),
        50706: (_BYTE, [1, 4, 0, 0]), 50708: (_ASCII, b"Testcam One\0"), 50714: (_SHORT, [0]),
        50717: (_LONG, [60000]), 50721: (_SIGNED, [n for v in camera for n in (int(v * 10000), 10000)]),
        50728: (_RATIONAL, [1, 1, 1, 1, 1, 1]), 50778: (_SHORT, [21]),
    }  # fmt: skip
    directories = [sensor]
    if preview:
        sensor[330] = (_LONG, ["directory"])
        directories.append({
            254: (_LONG, [1]), 256: (_LONG, [preview_size[0]]), 257: (_LONG, [preview_size[1]]),
            258: (_SHORT, [8, 8, 8]), 259: (_SHORT, [7]), 262: (_SHORT, [6]), 273: (_LONG, ["preview"]),
            277: (_SHORT, [3]), 278: (_LONG, [preview_size[1]]), 279: (_LONG, [len(preview)]),
        })  # fmt: skip
    sizes = [2 + 12 * len(d) + 4 + sum(_more(*entry) for entry in d.values()) for d in directories]
    places = {"directory": 8 + sizes[0], "preview": 8 + sum(sizes)}
    places["pixels"] = places["preview"] + len(preview) + len(preview) % 2
    parts = [b"II*\0", struct.pack("<I", 8)]
    for start, directory in zip([8, 8 + sizes[0]], directories, strict=False):
        parts.append(_directory(directory, start, places))
    return b"".join([*parts, preview, b"\0" * (len(preview) % 2), mosaic.tobytes()])


def _packed(kind: int, values, places) -> bytes:
    values = [places.get(v, 0) if isinstance(v, str) else v for v in values]
    item = _FORMATS[kind]
    return struct.pack(f"<{len(values)}{item[0]}", *values)


def _more(kind: int, values) -> int:
    """Bytes that do not fit into the entry itself."""
    n_bytes = len(_packed(kind, values, {}))
    return n_bytes + n_bytes % 2 if n_bytes > 4 else 0


def _directory(entries: dict, start: int, places: dict[str, int]) -> bytes:
    head = struct.pack("<H", len(entries))
    more = b""
    more_at = start + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        packed = _packed(kind, values, places)
        n_values = len(values) // (2 if kind in (_RATIONAL, _SIGNED) else 1)
        head += struct.pack("<HHI", tag, kind, n_values)
        if len(packed) <= 4:
            head += packed.ljust(4, b"\0")
            continue
        head += struct.pack("<I", more_at + len(more))
        more += packed + b"\0" * (len(packed) % 2)
    return head + b"\0\0\0\0" + more
