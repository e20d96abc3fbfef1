#!/usr/bin/env python3
"""Makes a model in HuggingFace format out of a GGUF file.

    <vLLM's environment>/bin/python make_hf_model.py FILE.gguf DIRECTORY

Wants transformers, torch, accelerate and gguf. The directory appears whole or not at all.
"""

import os
import pathlib
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"


def convert(source, target):
    # They take seconds to import: not before the arguments are known to be right.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    unpacked = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    # The loaded one remembers that it was quantized, and would be saved so.
    config = unpacked.config
    for name in ("quantization_config", "_name_or_path"):
        if hasattr(config, name):
            delattr(config, name)
    model = type(unpacked)(config).to(torch.bfloat16)
    model.load_state_dict(unpacked.state_dict())
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} FILE.gguf DIRECTORY")
    source, target = (pathlib.Path(name).resolve() for name in sys.argv[1:])
    stage = target.with_name(f".{target.name}.new")
    shutil.rmtree(stage, ignore_errors=True)
    convert(source, stage)
    shutil.rmtree(target, ignore_errors=True)
    stage.rename(target)


if __name__ == "__main__":
    main()
