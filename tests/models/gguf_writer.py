"""Writes GGUF files: with weights drawn by lot, or sparse, with a true header and no weights."""

import dataclasses
import math
import os
import random
import struct

# Name: its number in GGUF, the elements of a block, the bytes of a block.
TYPES = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q6_K": (14, 256, 210),
    "MXFP4": (39, 32, 17),
}

ALIGNMENT = 32
UINT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 2, 4, 5, 6, 7, 8, 9


@dataclasses.dataclass(frozen=True)
class Typed:
    """A value of metadata that is not of the type that its Python type would get."""
    code: int
    value: object


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    dims: tuple  # As in GGUF: the length of a row first.
    type: str

    @property
    def elements(self):
        return math.prod(self.dims)

    @property
    def bytes(self):
        _, elements, size = TYPES[self.type]
        assert self.dims[0] % elements == 0, f"{self.name}: no whole blocks of {self.type}"
        return self.elements // elements * size


def aligned(size):
    return -(-size // ALIGNMENT) * ALIGNMENT


# Header

def _code_of(value):
    if isinstance(value, Typed):
        return value.code
    if isinstance(value, (list, tuple)):
        return ARRAY
    return {bool: BOOL, int: UINT32, float: FLOAT32, str: STRING}[type(value)]


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value):
    code = _code_of(value)
    if code == ARRAY:
        content = b"".join(_value(item) for item in value)
        return struct.pack("<IQ", _code_of(value[0]), len(value)) + content
    value = value.value if isinstance(value, Typed) else value
    if code == STRING:
        return _string(value)
    return struct.pack({UINT16: "<H", UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[code],
                       value)


def header(metadata, tensors):
    text = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        text += _string(key) + struct.pack("<I", _code_of(value)) + _value(value)
    infos = []
    offset = 0
    for tensor in tensors:
        infos.append(_string(tensor.name) + struct.pack("<I", len(tensor.dims)))
        infos.append(struct.pack(f"<{len(tensor.dims)}QIQ", *tensor.dims, TYPES[tensor.type][0],
                                 offset))
        offset += aligned(tensor.bytes)
    text += b"".join(infos)
    return text + bytes(aligned(len(text)) - len(text))


# Weights

_SIGNED_F16 = bytes((n & 0x80) | 0x24 | (n & 0x03) for n in range(256))  # 0.016 to 0.031
_SIGNED_F32 = bytes((n & 0x80) | 0x3C for n in range(256))               # 0.008 to 0.031


def _interleaved(columns, blocks):
    """`blocks` blocks: of each byte of a block its value, or one value for each block."""
    data = bytearray(len(columns) * blocks)
    for place, column in enumerate(columns):
        data[place::len(columns)] = bytes([column]) * blocks if isinstance(column, int) else column
    return bytes(data)


def _drawn(tensor, source):
    _, elements, size = TYPES[tensor.type]
    blocks = tensor.elements // elements

    def columns(count, table=None):
        drawn = [source.randbytes(blocks) for _ in range(count)]
        return [column.translate(table) for column in drawn] if table else drawn

    if tensor.type == "F32":
        return _interleaved(columns(3) + columns(1, _SIGNED_F32), blocks)
    if tensor.type == "F16":
        return _interleaved(columns(1) + columns(1, _SIGNED_F16), blocks)
    if tensor.type == "Q8_0":  # A scale of 2^-12, then 32 numbers.
        return _interleaved([0x00, 0x0C, *columns(32)], blocks)
    if tensor.type == "MXFP4":  # A scale of 2^-7, then 32 numbers in 16 bytes.
        return _interleaved([120, *columns(size - 1)], blocks)
    raise ValueError(f"no weights of type {tensor.type}")


def _weights(tensor, seed):
    if tensor.type == "F32" and "norm" in tensor.name:
        return struct.pack("<f", 1.0) * tensor.elements
    if tensor.name.endswith("ssm_a"):  # A decay.
        return struct.pack("<f", -1.0) * tensor.elements
    return _drawn(tensor, random.Random(f"{seed} {tensor.name}"))


# Files

def size_of(metadata, tensors):
    """Of the file, in bytes."""
    return len(header(metadata, tensors)) + sum(aligned(tensor.bytes) for tensor in tensors)


def write(file, metadata, tensors, seed=0):
    """With weights: always the same ones for the same seed."""
    with open(file, "wb") as out:
        out.write(header(metadata, tensors))
        for tensor in tensors:
            data = _weights(tensor, seed)
            out.write(data + bytes(aligned(len(data)) - len(data)))


def write_sparse(file, metadata, tensors):
    """As long as with weights, but on the disk there is only the header."""
    with open(file, "wb") as out:
        out.write(header(metadata, tensors))
    os.truncate(file, size_of(metadata, tensors))


def part_name(stem, number, count):
    return f"{stem}-{number:05}-of-{count:05}.gguf"


def _split(metadata, parts):
    """The metadata of each file: the first has the model's."""
    about = [{"split.no": Typed(UINT16, number), "split.count": Typed(UINT16, len(parts)),
              "split.tensors.count": Typed(INT32, sum(map(len, parts)))}
             for number in range(len(parts))]
    return [metadata | about[0], *about[1:]]


def size_of_split(metadata, parts):
    """Of all files, in bytes. `parts`: a list of tensors for each file."""
    return sum(map(size_of, _split(metadata, parts), parts))


def write_sparse_split(directory, stem, metadata, parts):
    """Returns the first file."""
    files = [directory / part_name(stem, number, len(parts))
             for number in range(1, len(parts) + 1)]
    for file, about, tensors in zip(files, _split(metadata, parts), parts, strict=True):
        write_sparse(file, about, tensors)
    return files[0]
