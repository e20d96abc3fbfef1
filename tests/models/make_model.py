#!/usr/bin/env python3
"""Makes GGUF models that need no download, to measure memory with.

    make_model.py --list
    make_model.py small NAME DIRECTORY [--seed N]
    make_model.py true NAME DIRECTORY

A small model has weights drawn by lot, always the same ones, and a tokenizer: an engine loads it
and generates nonsense. A true one has header and size of the published model, but as a sparse file
without weights: engines can plan with it, not compute. Prints the file to give to an engine.
"""

import argparse
import pathlib
import sys

import architectures
import gguf_writer
import kimi_k2


# Quantizations: which type a matrix gets.

def all_of(kind):
    return lambda layers: lambda name, layer: kind


def _is_special(layer, layers):
    """The layers whose sensitive matrices Q4_K_M keeps better: the first and last eighth, and every
    third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def q4_k_m(layers):
    def type_of(name, layer):
        if name == "output":
            return "Q6_K"
        if name in ("attn_v", "ffn_down", "ffn_down_exps") and _is_special(layer, layers):
            return "Q6_K"
        return "Q8_0" if name in ("attn_k_b", "attn_v_b") else "Q4_K"

    return type_of


def mxfp4_moe(layers):
    return lambda name, layer: "MXFP4" if name.endswith("_exps") else "Q8_0"


# Models. Small ones have the shape of the architecture, so that each part shows in the figures.

SMALL = {
    "llama": (architectures.llama, all_of("Q8_0"), {
        "layers": 4, "embedding": 256, "heads": 8, "kv_heads": 2, "head_length": 32,
        "feed_forward": 768, "vocabulary": 1024, "context": 32768}),
    "qwen3": (architectures.qwen3, all_of("Q8_0"), {
        "layers": 4, "embedding": 256, "heads": 8, "kv_heads": 2, "head_length": 64,
        "feed_forward": 768, "vocabulary": 1024, "context": 32768, "tied": True}),
    "qwen3moe": (architectures.qwen3moe, all_of("Q8_0"), {
        "layers": 4, "embedding": 256, "heads": 8, "kv_heads": 2, "head_length": 64,
        "feed_forward": 768, "expert_feed_forward": 128, "experts": 16, "experts_used": 4,
        "vocabulary": 1024, "context": 32768}),
    "gemma3": (architectures.gemma3, all_of("Q8_0"), {
        "layers": 12, "embedding": 256, "heads": 4, "kv_heads": 2, "head_length": 64,
        "feed_forward": 512, "vocabulary": 1024, "context": 32768, "window": 512}),
    "deepseek2": (architectures.deepseek2, all_of("Q8_0"), {
        "layers": 4, "embedding": 256, "heads": 8, "query_rank": 128, "latent_rank": 128,
        "rope_length": 32, "key_length": 64, "value_length": 64, "dense_layers": 1,
        "feed_forward": 512, "expert_feed_forward": 128, "experts": 16, "experts_used": 4,
        "vocabulary": 1024, "context": 32768}),
    "mamba": (architectures.mamba, all_of("Q8_0"), {
        "layers": 8, "embedding": 256, "state": 16, "rank": 32, "kernel": 4, "vocabulary": 1024,
        "context": 32768}),
    "lfm2": (architectures.lfm2, all_of("Q8_0"), {
        "layers": 6, "embedding": 256, "heads": 4, "kv_heads": 2, "head_length": 64,
        "attention_layers": (2, 5), "feed_forward": 512, "kernel": 3, "vocabulary": 1024,
        "context": 32768}),
    "falcon-h1": (architectures.falcon_h1, all_of("Q8_0"), {
        "layers": 4, "embedding": 256, "heads": 4, "kv_heads": 2, "head_length": 64,
        "inner": 512, "state": 64, "groups": 1, "ssm_heads": 8, "kernel": 4,
        "feed_forward": 512, "vocabulary": 1024, "context": 32768}),
    "gpt-oss": (architectures.gpt_oss, mxfp4_moe, {
        "layers": 4, "embedding": 256, "heads": 8, "kv_heads": 2, "head_length": 64,
        "expert_feed_forward": 256, "experts": 8, "experts_used": 4, "window": 128,
        "vocabulary": 1024, "context": 32768}),
    "bert": (architectures.bert, all_of("F16"), {
        "layers": 4, "embedding": 192, "heads": 6, "feed_forward": 768, "vocabulary": 1024,
        "context": 512}),
}

# From the configurations that their makers published.
TRUE = {
    "llama-3.1-8b-q4_k_m": (architectures.llama, q4_k_m, {
        "layers": 32, "embedding": 4096, "heads": 32, "kv_heads": 8, "head_length": 128,
        "feed_forward": 14336, "vocabulary": 128256, "context": 131072}),
    "llama-3.1-70b-q4_k_m": (architectures.llama, q4_k_m, {
        "layers": 80, "embedding": 8192, "heads": 64, "kv_heads": 8, "head_length": 128,
        "feed_forward": 28672, "vocabulary": 128256, "context": 131072}),
    "qwen3-32b-q4_k_m": (architectures.qwen3, q4_k_m, {
        "layers": 64, "embedding": 5120, "heads": 64, "kv_heads": 8, "head_length": 128,
        "feed_forward": 25600, "vocabulary": 151936, "context": 40960}),
    "qwen3-30b-a3b-q4_k_m": (architectures.qwen3moe, q4_k_m, {
        "layers": 48, "embedding": 2048, "heads": 32, "kv_heads": 4, "head_length": 128,
        "feed_forward": 6144, "expert_feed_forward": 768, "experts": 128, "experts_used": 8,
        "vocabulary": 151936, "context": 40960}),
    "gemma-3-27b-q8_0": (architectures.gemma3, all_of("Q8_0"), {
        "layers": 62, "embedding": 5376, "heads": 32, "kv_heads": 16, "head_length": 128,
        "feed_forward": 21504, "vocabulary": 262144, "context": 131072, "window": 1024}),
    "deepseek-v3-q4_k_m": (architectures.deepseek2, q4_k_m, {
        "layers": 61, "embedding": 7168, "heads": 128, "query_rank": 1536, "latent_rank": 512,
        "rope_length": 64, "key_length": 128, "value_length": 128, "dense_layers": 3,
        "feed_forward": 18432, "expert_feed_forward": 2048, "experts": 256, "experts_used": 8,
        "expert_groups": 8, "expert_groups_used": 4, "vocabulary": 129280, "context": 163840}),
    "mamba-2.8b-q8_0": (architectures.mamba, all_of("Q8_0"), {
        "layers": 64, "embedding": 2560, "state": 16, "rank": 160, "kernel": 4,
        "vocabulary": 50280, "context": 1048576, "tied": True}),
    "lfm2-1.2b-q8_0": (architectures.lfm2, all_of("Q8_0"), {
        "layers": 16, "embedding": 2048, "heads": 32, "kv_heads": 8, "head_length": 64,
        "attention_layers": (2, 5, 8, 10, 12, 14), "feed_forward": 8192, "kernel": 3,
        "vocabulary": 65536, "context": 128000}),
    "falcon-h1-7b-q8_0": (architectures.falcon_h1, all_of("Q8_0"), {
        "layers": 44, "embedding": 3072, "heads": 12, "kv_heads": 2, "head_length": 128,
        "inner": 3072, "state": 256, "groups": 1, "ssm_heads": 24, "kernel": 4,
        "feed_forward": 12288, "vocabulary": 130048, "context": 262144}),
    "gpt-oss-20b-mxfp4": (architectures.gpt_oss, mxfp4_moe, {
        "layers": 24, "embedding": 2880, "heads": 64, "kv_heads": 8, "head_length": 64,
        "expert_feed_forward": 2880, "experts": 32, "experts_used": 4, "window": 128,
        "vocabulary": 201088, "context": 131072}),
    "bge-large-f16": (architectures.bert, all_of("F16"), {
        "layers": 24, "embedding": 1024, "heads": 16, "feed_forward": 4096, "vocabulary": 30522,
        "context": 512}),
}


def _built(table, name):
    build, quantization, numbers = table[name]
    return build(numbers, quantization(numbers["layers"]))


def small(name, directory, seed=0):
    file = pathlib.Path(directory) / f"small-{name}.gguf"
    gguf_writer.write(file, *_built(SMALL, name), seed)
    return file


def true_size(name, directory):
    """For a split model the first of its files."""
    directory = pathlib.Path(directory)
    if name == kimi_k2.NAME:
        return kimi_k2.write(directory)
    file = directory / f"{name}.gguf"
    gguf_writer.write_sparse(file, *_built(TRUE, name))
    return file


def true_names():
    return [*TRUE, kimi_k2.NAME]


def names():
    return [*(f"small {name}" for name in SMALL), *(f"true {name}" for name in true_names())]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="names of all models")
    parser.add_argument("kind", nargs="?", choices=("small", "true"))
    parser.add_argument("name", nargs="?")
    parser.add_argument("directory", nargs="?", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.list:
        print("\n".join(names()))
        return
    if args.directory is None or f"{args.kind} {args.name}" not in names():
        sys.exit("What? make_model.py --list says what there is.")
    args.directory.mkdir(parents=True, exist_ok=True)
    print(small(args.name, args.directory, args.seed) if args.kind == "small"
          else true_size(args.name, args.directory))


if __name__ == "__main__":
    main()
