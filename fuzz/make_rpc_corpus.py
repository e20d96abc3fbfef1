#!/usr/bin/env python3
"""Writes the first inputs of fuzz_rpc_reply and fuzz_rpc_client: make_rpc_corpus.py CORPUS.

Answers as a worker gives them, one input a kind, and a few that are wrong.
"""
import struct
import sys
from pathlib import Path


def answer(body: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(body) if claimed is None else claimed) + body


HELLO = bytes([7, 0, 0, 0]) + bytes(24)
KINDS = {  # By the number that fuzz_rpc_reply.cc gives them.
    "hello": (0, HELLO),
    "device_count": (1, struct.pack("<I", 2)),
    "memory": (2, struct.pack("<QQ", 1 << 30, 1 << 34)),
    "alloc": (3, struct.pack("<QQ", 77, 4096)),
    "alloc_no_room": (3, struct.pack("<QQ", 0, 0)),
    "alignment": (4, struct.pack("<Q", 128)),
    "base": (5, struct.pack("<Q", 0x7F0000000000)),
    "alloc_size": (6, struct.pack("<Q", 8192)),
    "copied": (7, b"\x01"),
    "tensor": (9, bytes(range(100))),
    "tensor_empty": (9, b""),
}


def reply_input(answers: list[tuple[int, bytes]], piece: int, tail: bytes = b"") -> bytes:
    announced = b"".join(bytes([kind, len(body)]) for kind, body in answers)
    return bytes([len(answers)]) + announced + bytes([piece]) + b"".join(answer(body) for _, body in answers) + tail


def main(corpus: Path) -> None:
    reply = corpus / "rpc_reply"
    client = corpus / "rpc_client"
    for directory in (reply, client):
        directory.mkdir(parents=True, exist_ok=True)
    for name, kind in KINDS.items():
        (reply / name).write_bytes(reply_input([kind], 31))
    (reply / "all_bytewise").write_bytes(reply_input(list(KINDS.values()), 0))
    (reply / "all_pieces").write_bytes(reply_input(list(KINDS.values()), 200))
    (reply / "unasked").write_bytes(reply_input([KINDS["copied"]], 31, answer(b"\x01")))
    (reply / "other_size").write_bytes(bytes([1, 9, 100, 31]) + answer(bytes(100), 101))
    (reply / "endless").write_bytes(bytes([1, 8, 0xFF, 31]) + answer(bytes(100), 0xFF << (0xFF % 57)))

    # A byte: what the client asks for. The worker's bytes in pieces: a length, and so many.
    flag = answer(b"\x01")
    tensor = answer(bytes(range(100)))
    runs = {
        "all": (0xFF, [flag, flag, tensor, tensor, tensor, tensor]),
        "reads": (0x0C, [tensor, tensor]),
        "chained": (0x30, [tensor, tensor[:50], tensor[50:]]),
        "refused": (0x01, [answer(b"\x00")]),
        "unasked": (0x00, [tensor]),
        "other_size": (0x04, [answer(b"", 101)]),
    }
    for name, (asks, pieces) in runs.items():
        (client / name).write_bytes(bytes([asks]) + b"".join(bytes([len(piece)]) + piece for piece in pieces))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
