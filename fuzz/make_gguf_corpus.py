#!/usr/bin/env python3
"""Writes the seeds of fuzz_gguf: make_gguf_corpus.py DIRECTORY.

Small whole files of each form, and each kind of damage. The first byte says how fuzz_gguf reads
the rest.
"""
import struct
import sys
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q",
           I64: "q", F64: "d"}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def one(kind: int, value: object) -> bytes:
    return text(str(value)) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


def single(key: str, kind: int, value: object) -> bytes:
    return text(key) + struct.pack("<I", kind) + one(kind, value)


def array(key: str, kind: int, values: list) -> bytes:
    return (text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
            + b"".join(one(kind, value) for value in values))


def tensor(name: str, dims: list[int], kind: int, offset: int) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return text(name) + shape + struct.pack("<IQ", kind, offset)


def gguf(values: list[bytes], tensors: list[bytes], data: int = 0, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    head += b"".join(values) + b"".join(tensors)
    return head + bytes(-len(head) % 32 + data) if data else head


LLAMA = [single("general.architecture", STRING, "llama"), single("general.file_type", U32, 15),
         single("llama.block_count", U32, 2), single("llama.attention.head_count", U32, 8),
         array("llama.attention.head_count_kv", I32, [2, 0]),
         array("tokenizer.ggml.tokens", STRING, ["a", "b"]),
         single("tokenizer.chat_template", STRING, "{{ m }}")]
TENSORS = [tensor("a", [256, 2], 12, 0), tensor("b", [32], 0, 288)]
SCALARS = [single(f"k{kind}", kind, 1) for kind in FORMATS]
ARRAYS = [array(f"a{kind}", kind, [1, 0]) for kind in FORMATS]
SPLIT = [single("split.no", U16, 0), single("split.count", U16, 3),
         single("split.tensors.count", I32, 2)]
WHOLE = gguf(LLAMA, TENSORS, 416)

FILES = {
    "whole_v3": WHOLE,
    "whole_v2": gguf(LLAMA, TENSORS, 416, version=2),
    "empty_v3": gguf([], []),
    "scalars": gguf(SCALARS, []),
    "arrays": gguf(ARRAYS, []),
    "mla": gguf([single("general.architecture", STRING, "deepseek2"),
                 single("deepseek2.attention.kv_lora_rank", U32, 512)], []),
    "recurrent": gguf([single("general.architecture", STRING, "mamba"),
                       single("mamba.ssm.state_size", U32, 16)], []),
    "projector": gguf([single("general.architecture", STRING, "clip")], []),
    "adapter": gguf([single("general.type", STRING, "adapter")], []),
    "split_first": gguf(LLAMA + SPLIT, TENSORS, 416),
    "split_second": gguf([single("split.no", U16, 1), *SPLIT[1:]], TENSORS, 416),
    "split_bad": gguf([single("split.no", U16, 3), *SPLIT[1:]], []),
    "alignment_64": gguf([single("general.alignment", U32, 64)], []),
    "alignment_0": gguf([single("general.alignment", U32, 0)], []),
    "unknown_type": gguf([], [tensor("a", [7], 99, 0), tensor("b", [8], 24, 64)], 96),
    "unknown_type_last": gguf([], [tensor("a", [7], 99, 0)], 96),
    "block_misfit": gguf([], [tensor("a", [100], 12, 0)], 96),
    "dims_overflow": gguf([], [tensor("a", [2**32, 2**32], 0, 0)], 96),
    "dims_zero": gguf([], [tensor("a", [0], 0, 0)], 96),
    "dims_many": gguf([], [tensor("a", [1] * 5, 0, 0)], 96),
    "offset_overlap": gguf([], [tensor("a", [32], 0, 0), tensor("b", [32], 0, 32)], 256),
    "offset_odd": gguf([], [tensor("a", [32], 0, 1)], 256),
    "offset_huge": gguf([], [tensor("a", [32], 0, 2**63)], 256),
    "tensor_twice": gguf([], [tensor("a", [8], 0, 0), tensor("a", [8], 0, 32)], 64),
    "key_twice": gguf([single("k", U8, 1)] * 2, []),
    "key_empty": gguf([single("", U8, 1)], []),
    "value_type": gguf([text("k") + struct.pack("<I", 13)], []),
    "array_type": gguf([text("k") + struct.pack("<IIQ", ARRAY, 77, 1)], []),
    "array_nested": gguf([text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1)], []),
    "array_endless": gguf([text("k") + struct.pack("<IIQ", ARRAY, U64, 2**63)], []),
    "strings_endless": gguf([text("k") + struct.pack("<IIQ", ARRAY, STRING, 2**63)], []),
    "string_endless": gguf([text("k") + struct.pack("<IQ", STRING, 2**64 - 1)], []),
    "key_endless": gguf([struct.pack("<Q", 2**64 - 1)], []),
    "counts_endless": b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 2**64 - 1),
    "counts_wrong": b"GGUF" + struct.pack("<IQQ", 3, 200, 200) + b"".join(LLAMA),
    "data_missing": gguf(LLAMA, TENSORS),
    "cut_value": WHOLE[:100],
    "cut_head": WHOLE[:12],
    "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "version_1": gguf([], [], version=1),
    "version_4": gguf([], [], version=4),
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "safetensors": b"\x40" + bytes(7) + b'{"__metadata__":{}}',
    "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "html": b"<!DOCTYPE html>",
    "text": b"Not found",
}


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (directory / name).write_bytes(b"\x01" + content)
    for name in ("whole_v3", "array_endless", "strings_endless", "unknown_type_last"):
        (directory / f"{name}_no_size").write_bytes(b"\x00" + FILES[name])
        (directory / f"{name}_hole").write_bytes(b"\x03" + FILES[name])


if __name__ == "__main__":
    main()
