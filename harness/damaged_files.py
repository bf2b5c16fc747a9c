"""Safetensors files, damaged in the ways that files are: cut, renamed, reshaped, edited by hand, full of NaN.

`rng` is a random.Random, or hypothesis' stand-in for one, which can shrink what it draws.
"""

import json
import struct
from dataclasses import dataclass
from random import Random

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "BOOL": 1}
DTYPES = (*SIZES, "U8", "F8_E4M3", "F8_E8M0", "C64", "F4", "X7")  # some are not known to every version
WILD = ("", "0", "-1", "1e9", "99999999999", "NaN", "null", "[]", "{", "true", "\u00e9\ud7ff", "[" * 5000, "9" * 5000)
LEAVES = (0, -1, 1, 2, 3, 7, 10**6, 10**12, 1e30, -0.5, True, None, "", "gelu", "x", [], {}, [0, -1], [[[]]])
NAN, INFINITE, WILD_NUMBER = struct.pack("<f", float("nan")), struct.pack("<f", float("inf")), struct.pack("<f", 3e38)


@dataclass
class Parts:
    """Of a file: {name: (dtype, shape, data)} and its metadata."""

    tensors: dict[str, tuple[str, list[int], bytes]]
    metadata: dict[str, str]


def take_apart(file: bytes) -> Parts:
    (length,) = struct.unpack("<Q", file[:8])
    header, data = json.loads(file[8 : 8 + length]), file[8 + length :]
    metadata = header.pop("__metadata__", {})
    tensors = {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }
    return Parts(tensors, metadata)


def put_together(parts: Parts) -> bytes:
    header, data = {"__metadata__": parts.metadata} if parts.metadata else {}, b""
    for name, (dtype, shape, content) in parts.tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# ---- one tensor


def drop(parts: Parts, rng: Random) -> None:
    for _ in range(min(rng.randrange(1, 3), len(parts.tensors))):
        parts.tensors.pop(rng.choice(sorted(parts.tensors)))


def rename(parts: Parts, rng: Random) -> None:
    name = rng.choice(sorted(parts.tensors))
    pieces = name.split(".")
    at = rng.randrange(len(pieces))
    pieces[at] = rng.choice(["0", "1", "7", "1000", "20000", "weight", "bias", "x", "", "trunk", "foo_mot_ref"])
    copy = rng.random() < 0.5
    parts.tensors[".".join(pieces)] = parts.tensors[name] if copy else parts.tensors.pop(name)


def reshape(parts: Parts, rng: Random) -> None:
    name = rng.choice(sorted(parts.tensors))
    dtype, shape, content = parts.tensors[name]
    count = len(content) // SIZES.get(dtype, 4)
    halves = [2, count // 2] if count % 2 == 0 else [count]
    changed = rng.choice(
        [[count], [1, *shape], shape[::-1], halves, [1, 1, 1, count], [0, 10**12], [0], [10**9, 10**9]]
    )
    parts.tensors[name] = (dtype, changed, b"" if 0 in changed else content)


def cut_rows(parts: Parts, rng: Random) -> None:
    """A well-formed tensor of another size."""
    name = rng.choice(sorted(parts.tensors))
    dtype, shape, content = parts.tensors[name]
    if shape and shape[0] > 1:
        rows = rng.randrange(1, shape[0])
        parts.tensors[name] = (dtype, [rows, *shape[1:]], content[: len(content) // shape[0] * rows])


def retype(parts: Parts, rng: Random) -> None:
    name = rng.choice(sorted(parts.tensors))
    _, shape, content = parts.tensors[name]
    parts.tensors[name] = (rng.choice(DTYPES), shape, content)


def retype_all(parts: Parts, rng: Random) -> None:
    """Every number in half the bytes: float32 data read as pairs of 16 bits, with rows twice as long cut in half."""
    kind = rng.choice(["BF16", "F16", "I16"])
    for name, (dtype, shape, content) in parts.tensors.items():
        if SIZES.get(dtype) == 4:
            parts.tensors[name] = (kind, shape, content[: len(content) // 2])


def spoil(parts: Parts, rng: Random) -> None:
    name = rng.choice(sorted(parts.tensors))
    dtype, shape, content = parts.tensors[name]
    if len(content) >= 4:
        at = rng.randrange(len(content) // 4) * 4
        parts.tensors[name] = (
            dtype,
            shape,
            content[:at] + rng.choice([NAN, INFINITE, WILD_NUMBER]) + content[at + 4 :],
        )


# ---- metadata


def drop_metadata(parts: Parts, rng: Random) -> None:
    if parts.metadata:
        parts.metadata.pop(rng.choice(sorted(parts.metadata)))


def wild_metadata(parts: Parts, rng: Random) -> None:
    names = [*sorted(parts.metadata), "config", "layers", "open_clip", "vocabulary", "_quantization_metadata"]
    parts.metadata[rng.choice(names)] = rng.choice([*WILD, ",".join(map(str, range(rng.choice([3, 1000, 20000]))))])


def wild_json(parts: Parts, rng: Random) -> None:
    """Metadata that is JSON, with one value of it changed."""
    texts = [name for name, text in sorted(parts.metadata.items()) if text.startswith(("{", "["))]
    if texts:
        name = rng.choice(texts)
        parts.metadata[name] = wild_text(parts.metadata[name], rng)


def wild_text(text: str, rng: Random) -> str:
    """A JSON text with one value changed, added or removed, or no JSON any more."""
    if rng.random() < 0.2:
        return rng.choice([*WILD, text[: rng.randrange(len(text))]])
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    place = value
    while isinstance(place, dict | list) and place:
        key = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.2:
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = rng.choice(LEAVES)
            break
        place = place[key]
    return json.dumps(value)


# ---- bytes


def flip(file: bytes, rng: Random) -> bytes:
    changed = bytearray(file)
    (length,) = struct.unpack("<Q", file[:8])
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(min(8 + length, len(file)))] = rng.randrange(256)
    return bytes(changed)


def cut(file: bytes, rng: Random) -> bytes:
    return file[: rng.randrange(len(file))]


def lengthen(file: bytes, rng: Random) -> bytes:
    return file + bytes(rng.randrange(1, 100))


def lie_about_the_header(file: bytes, rng: Random) -> bytes:
    return struct.pack("<Q", rng.choice([0, 1, 2**20, 2**40, 2**63])) + file[8:]


# fmt: skip
OF_PARTS = drop, rename, reshape, cut_rows, retype, retype_all, spoil, drop_metadata, wild_metadata, wild_json
OF_BYTES = (flip, cut, lengthen, lie_about_the_header)


def damaged(file: bytes, rng: Random) -> bytes:
    """`file` with one to three damages."""
    parts = take_apart(file)
    for _ in range(rng.randrange(1, 4)):
        if parts.tensors:
            rng.choice(OF_PARTS)(parts, rng)
    file = put_together(parts)
    return rng.choice(OF_BYTES)(file, rng) if rng.random() < 0.25 else file
