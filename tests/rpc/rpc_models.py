"""Small models for tests of RPC: those of tests/models, made livelier and, if asked for, of other
sizes.

Weights drawn by lot are so small there that a model says its last token again and again, whatever
it computes. Here the matrices of the layers and of the output are larger, so that what a layer
computes changes the reply.
"""

import mmap

import gguf_writer
import make_model

# Per type: the bytes of a block, and the place and value of the byte that scales it by eight.
LOUDER = {"Q8_0": (34, 1, 0x18), "MXFP4": (17, 0, 123)}

# For thousands of requests, and for GPUs that a CPU plays.
TINY = {
    "llama": {"layers": 4, "embedding": 64, "heads": 2, "kv_heads": 1, "head_length": 32,
              "feed_forward": 128, "vocabulary": 512},
    "qwen3moe": {"layers": 4, "embedding": 64, "heads": 2, "kv_heads": 1, "head_length": 32,
                 "expert_feed_forward": 64, "experts": 8, "experts_used": 2, "vocabulary": 512},
    "gemma3": {"layers": 6, "embedding": 64, "heads": 2, "kv_heads": 1, "head_length": 32,
               "feed_forward": 128, "vocabulary": 512, "window": 32},
}


def vocabulary(name):
    """How many tokens a model of `build` knows."""
    return 512 if name.startswith("tiny-") else 1024


def build(name):
    """Metadata and tensors of a model of tests/models, or of "tiny-" and its architecture."""
    architecture = name.removeprefix("tiny-")
    make, quantization, numbers = make_model.SMALL[architecture]
    if name != architecture:
        numbers = numbers | TINY[architecture]
    return make(numbers, quantization(numbers["layers"]))


def _is_loud(tensor):
    return tensor.type in LOUDER and not tensor.name.startswith("token_embd")


def write(file, name, seed=0):
    metadata, tensors = build(name)
    gguf_writer.write(file, metadata, tensors, seed)
    with open(file, "r+b") as out, mmap.mmap(out.fileno(), 0) as data:
        start = len(gguf_writer.header(metadata, tensors))
        for tensor in tensors:
            if _is_loud(tensor):
                size, place, value = LOUDER[tensor.type]
                end = start + tensor.bytes
                data[start + place:end:size] = bytes([value]) * (tensor.bytes // size)
            start += gguf_writer.aligned(tensor.bytes)
    return file
