"""Kimi K2.5 in the quantization UD-Q2_K_XL, as sparse files.

Published are the model's numbers, its 1096 tensors, and that the 8 files have 374,764,330,144 bytes
together; not which type each tensor has. The mix here is the one of K-quants that comes nearest:
the experts as llama.cpp's Q2_K has them (Q2_K, and Q3_K for those that lead back), which is 98 % of
all bytes, the small matrices of the latent attention Q8_0, everything else Q4_K but
`attn_kv_a_mqa` of the first 21 layers. Less than a megabyte is then missing: it goes into the
header, as a description of blanks.
"""

import architectures
import gguf_writer

NAME = "kimi-k2.5-ud-q2_k_xl"
STEM = "Kimi-K2.5-UD-Q2_K_XL"
BYTES = 374_764_330_144
PARTS = 8
PART_BYTES = 50_000_000_000  # At most.
NUMBERS = {
    "layers": 61, "embedding": 7168, "heads": 64, "query_rank": 1536, "latent_rank": 512,
    "rope_length": 64, "key_length": 128, "value_length": 128, "dense_layers": 1,
    "feed_forward": 18432, "expert_feed_forward": 2048, "experts": 384, "experts_used": 8,
    "vocabulary": 163840, "context": 262144,
}


def _type_of(name, layer):
    if name in ("ffn_gate_exps", "ffn_up_exps"):
        return "Q2_K"
    if name == "ffn_down_exps":
        return "Q3_K"
    if name in ("attn_k_b", "attn_v_b") or (name == "attn_kv_a_mqa" and layer < 21):
        return "Q8_0"
    return "Q4_K"


def _in_parts(tensors):
    parts = [[]]
    used = 0
    for tensor in tensors:
        if used + tensor.bytes > PART_BYTES:
            parts.append([])
            used = 0
        parts[-1].append(tensor)
        used += tensor.bytes
    assert len(parts) == PARTS, len(parts)
    return parts


def write(directory):
    """Returns the first file."""
    metadata, tensors = architectures.deepseek2(NUMBERS, _type_of)
    metadata["general.description"] = ""
    parts = _in_parts(tensors)
    missing = BYTES - gguf_writer.size_of_split(metadata, parts)
    # A header ends where its alignment says: only whole multiples can be made up.
    assert 0 <= missing < 2**20 and missing % gguf_writer.ALIGNMENT == 0, missing
    metadata["general.description"] = " " * missing
    assert gguf_writer.size_of_split(metadata, parts) == BYTES
    return gguf_writer.write_sparse_split(directory, STEM, metadata, parts)
