"""Llama models with weights drawn by lot, in Q8_0, written as fast as the disk takes them: the
same drawn blocks again and again, which computes as fast as any others."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/models"))
import architectures  # noqa: E402
import gguf_writer  # noqa: E402

BLOCK = 34  # Bytes: a scale, then 32 numbers.
BLOCKS = 1 << 20
Numbers = dict[str, int]

# 87 million weights: of a size that two cores take seconds for a prompt, and the stages still take
# a hundred times as long as what is around them.
CPU_LLAMA: Numbers = {"layers": 17, "embedding": 512, "heads": 8, "kv_heads": 2, "head_length": 64,
                      "feed_forward": 2560, "vocabulary": 8192, "context": 32768}

# Nearly all in tensors over 10 MiB, which is what rpc servers keep in their caches.
UPLOAD_LLAMA: Numbers = {"layers": 14, "embedding": 3200, "heads": 25, "kv_heads": 25,
                         "head_length": 128, "feed_forward": 4096, "vocabulary": 4096,
                         "context": 4096}

# 1.36 thousand million weights, and the shape of Mistral 7B.
GPU_LLAMAS: dict[str, Numbers] = {
    "1.36B": {"layers": 20, "embedding": 2048, "heads": 32, "kv_heads": 8, "head_length": 64,
              "feed_forward": 8192, "vocabulary": 35000, "context": 32768},
    "7B": {"layers": 32, "embedding": 4096, "heads": 32, "kv_heads": 8, "head_length": 128,
           "feed_forward": 14336, "vocabulary": 32000, "context": 32768},
}


def _drawn_blocks(seed: int) -> memoryview:
    source = random.Random(seed)
    blocks = bytearray(BLOCK * BLOCKS)
    for place in range(BLOCK):  # A scale of 2^-12.
        blocks[place::BLOCK] = (b"\x00" * BLOCKS if place == 0 else b"\x0c" * BLOCKS if place == 1
                                else source.randbytes(BLOCKS))
    return memoryview(bytes(blocks))


def _llama(numbers: Numbers) -> tuple[dict, list]:
    metadata, tensors = architectures.llama(numbers, lambda name, layer: "Q8_0")
    return metadata, tensors


def size_of(numbers: Numbers) -> int:
    """Of the file, in bytes."""
    return int(gguf_writer.size_of(*_llama(numbers)))


def write_llama(file: Path, numbers: Numbers, seed: int = 0) -> None:
    metadata, tensors = _llama(numbers)
    blocks = _drawn_blocks(seed)
    place = 0
    with open(file, "wb") as out:
        out.write(gguf_writer.header(metadata, tensors))
        for tensor in tensors:
            left = tensor.bytes
            if tensor.type == "F32":
                out.write(struct.pack("<f", 1.0) * tensor.elements)
                left = 0
            while left:
                piece = blocks[place:place + left]
                out.write(piece)
                left -= len(piece)
                place = (place + len(piece)) % len(blocks)
            out.write(bytes(gguf_writer.aligned(tensor.bytes) - tensor.bytes))
