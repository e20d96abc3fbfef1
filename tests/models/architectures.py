"""What the files of an architecture hold: metadata and tensors, from a few numbers.

Each function takes the numbers of a model and `type_of(name, layer)`, which chooses a tensor's type
by its name without the layer ("attn_q"), and returns (metadata, tensors). Norms and what else the
engine wants as F32 are not asked about.
"""

from gguf_writer import INT32, Tensor, Typed

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


class Tensors:
    """Collects tensors."""

    def __init__(self, type_of):
        self.type_of = type_of
        self.list = []

    def matrix(self, name, *dims, layer=None, suffix=".weight"):
        self._add(name, dims, layer, suffix, self.type_of(name, layer))

    def f32(self, name, *dims, layer=None, suffix=".weight"):
        self._add(name, dims, layer, suffix, "F32")

    def _add(self, name, dims, layer, suffix, kind):
        place = "" if layer is None else f"blk.{layer}."
        self.list.append(Tensor(f"{place}{name}{suffix}", dims, kind))


# Tokenizers

def sentencepiece(size):
    """One that reads and writes every text, byte by byte; the other tokens are never met."""
    control = ["<unk>", "<s>", "</s>"]
    in_bytes = [f"<0x{n:02X}>" for n in range(256)]
    rest = [f"\u2581t{n}" for n in range(size - len(control) - len(in_bytes))]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(rest)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": control + in_bytes + rest,
        "tokenizer.ggml.scores": [float(-n) for n in range(size)],
        "tokenizer.ggml.token_type": [Typed(INT32, kind) for kind in kinds],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def word_piece(size):
    control = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
    words = [*[f"\u2581{letter}" for letter in letters], *letters]
    rest = [f"\u2581w{n}" for n in range(size - len(control) - len(words))]
    kinds = [CONTROL] * len(control) + [NORMAL] * (size - len(control))
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": control + words + rest,
        "tokenizer.ggml.token_type": [Typed(INT32, kind) for kind in kinds],
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,  # The format's spelling.
        "tokenizer.ggml.mask_token_id": 4,
    }


def _metadata(architecture, tokens, **fields):
    about = {"general.architecture": architecture, "general.name": architecture,
             "general.alignment": 32}
    about |= {f"{architecture}.{key.replace('__', '.')}": value for key, value in fields.items()}
    return about | tokens


# Parts that several architectures have

def _input_and_output(t, p):
    t.matrix("token_embd", p["embedding"], p["vocabulary"])
    t.f32("output_norm", p["embedding"])
    if not p.get("tied"):
        t.matrix("output", p["embedding"], p["vocabulary"])


def _attention(t, layer, p, norms=()):
    width, length = p["embedding"], p["head_length"]
    t.f32("attn_norm", width, layer=layer)
    t.matrix("attn_q", width, p["heads"] * length, layer=layer)
    t.matrix("attn_k", width, p["kv_heads"] * length, layer=layer)
    t.matrix("attn_v", width, p["kv_heads"] * length, layer=layer)
    t.matrix("attn_output", p["heads"] * length, width, layer=layer)
    for norm in norms:
        t.f32(norm, length, layer=layer)


def _feed_forward(t, layer, p, norm_suffix=".weight"):
    width, length = p["embedding"], p["feed_forward"]
    t.f32("ffn_norm", width, layer=layer, suffix=norm_suffix)
    t.matrix("ffn_gate", width, length, layer=layer)
    t.matrix("ffn_up", width, length, layer=layer)
    t.matrix("ffn_down", length, width, layer=layer)


def _experts(t, layer, p):
    width, length, count = p["embedding"], p["expert_feed_forward"], p["experts"]
    t.f32("ffn_gate_inp", width, count, layer=layer)
    t.matrix("ffn_gate_exps", width, length, count, layer=layer)
    t.matrix("ffn_up_exps", width, length, count, layer=layer)
    t.matrix("ffn_down_exps", length, width, count, layer=layer)


def _attention_fields(p):
    return {
        "context_length": p["context"],
        "embedding_length": p["embedding"],
        "block_count": p["layers"],
        "attention__head_count": p["heads"],
        "attention__head_count_kv": p["kv_heads"],
        "attention__key_length": p["head_length"],
        "attention__value_length": p["head_length"],
        "attention__layer_norm_rms_epsilon": 1e-6,
        "rope__dimension_count": p["head_length"],
        "rope__freq_base": 1e6,
        "vocab_size": p["vocabulary"],
    }


# Architectures

def llama(p, type_of):
    t = Tensors(type_of)
    _input_and_output(t, p)
    t.f32("rope_freqs", p["head_length"] // 2)
    for layer in range(p["layers"]):
        _attention(t, layer, p)
        _feed_forward(t, layer, p)
    fields = _attention_fields(p) | {"feed_forward_length": p["feed_forward"]}
    return _metadata("llama", sentencepiece(p["vocabulary"]), **fields), t.list


def qwen3(p, type_of):
    t = Tensors(type_of)
    _input_and_output(t, p)
    for layer in range(p["layers"]):
        _attention(t, layer, p, norms=("attn_q_norm", "attn_k_norm"))
        _feed_forward(t, layer, p)
    fields = _attention_fields(p) | {"feed_forward_length": p["feed_forward"]}
    return _metadata("qwen3", sentencepiece(p["vocabulary"]), **fields), t.list


def qwen3moe(p, type_of):
    t = Tensors(type_of)
    _input_and_output(t, p)
    for layer in range(p["layers"]):
        _attention(t, layer, p, norms=("attn_q_norm", "attn_k_norm"))
        t.f32("ffn_norm", p["embedding"], layer=layer)
        _experts(t, layer, p)
    fields = _attention_fields(p) | {
        "feed_forward_length": p["feed_forward"],
        "expert_feed_forward_length": p["expert_feed_forward"],
        "expert_count": p["experts"],
        "expert_used_count": p["experts_used"],
    }
    return _metadata("qwen3moe", sentencepiece(p["vocabulary"]), **fields), t.list


def gemma3(p, type_of):
    t = Tensors(type_of)
    _input_and_output(t, p | {"tied": True})
    for layer in range(p["layers"]):
        _attention(t, layer, p, norms=("attn_q_norm", "attn_k_norm"))
        t.f32("post_attention_norm", p["embedding"], layer=layer)
        _feed_forward(t, layer, p)
        t.f32("post_ffw_norm", p["embedding"], layer=layer)
    fields = _attention_fields(p) | {
        "feed_forward_length": p["feed_forward"],
        "attention__sliding_window": p["window"],
    }
    return _metadata("gemma3", sentencepiece(p["vocabulary"]), **fields), t.list


def deepseek2(p, type_of):
    """Multi-head latent attention; the first layers dense, then experts and a shared one."""
    width, heads = p["embedding"], p["heads"]
    query, latent, rope = p["query_rank"], p["latent_rank"], p["rope_length"]
    key, value = p["key_length"], p["value_length"]  # Of a head, without `rope`.
    t = Tensors(type_of)
    _input_and_output(t, p)
    for layer in range(p["layers"]):
        t.f32("attn_norm", width, layer=layer)
        t.matrix("attn_q_a", width, query, layer=layer)
        t.f32("attn_q_a_norm", query, layer=layer)
        t.matrix("attn_q_b", query, heads * (key + rope), layer=layer)
        t.matrix("attn_kv_a_mqa", width, latent + rope, layer=layer)
        t.f32("attn_kv_a_norm", latent, layer=layer)
        t.matrix("attn_k_b", key, latent, heads, layer=layer)
        t.matrix("attn_v_b", latent, value, heads, layer=layer)
        t.matrix("attn_output", heads * value, width, layer=layer)
        if layer < p["dense_layers"]:
            _feed_forward(t, layer, p)
            continue
        t.f32("ffn_norm", width, layer=layer)
        _experts(t, layer, p)
        t.f32("exp_probs_b", p["experts"], layer=layer, suffix=".bias")
        shared = p["expert_feed_forward"]
        t.matrix("ffn_gate_shexp", width, shared, layer=layer)
        t.matrix("ffn_up_shexp", width, shared, layer=layer)
        t.matrix("ffn_down_shexp", shared, width, layer=layer)
    fields = {
        "context_length": p["context"],
        "embedding_length": width,
        "block_count": p["layers"],
        "feed_forward_length": p["feed_forward"],
        "attention__head_count": heads,
        "attention__head_count_kv": 1,
        "attention__key_length": latent + rope,
        "attention__value_length": latent,
        "attention__key_length_mla": key + rope,
        "attention__value_length_mla": value,
        "attention__q_lora_rank": query,
        "attention__kv_lora_rank": latent,
        "attention__layer_norm_rms_epsilon": 1e-6,
        "rope__dimension_count": rope,
        "rope__freq_base": 5e4,
        "leading_dense_block_count": p["dense_layers"],
        "expert_feed_forward_length": p["expert_feed_forward"],
        "expert_count": p["experts"],
        "expert_used_count": p["experts_used"],
        "expert_shared_count": 1,
        "expert_group_count": p.get("expert_groups", 1),
        "expert_group_used_count": p.get("expert_groups_used", 1),
        "expert_gating_func": 2,  # Sigmoid.
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
        "vocab_size": p["vocabulary"],
    }
    return _metadata("deepseek2", sentencepiece(p["vocabulary"]), **fields), t.list


def mamba(p, type_of):
    width, inner, state, rank = p["embedding"], 2 * p["embedding"], p["state"], p["rank"]
    t = Tensors(type_of)
    _input_and_output(t, p)
    for layer in range(p["layers"]):
        t.f32("attn_norm", width, layer=layer)
        t.matrix("ssm_in", width, 2 * inner, layer=layer)
        t.f32("ssm_conv1d", p["kernel"], inner, layer=layer)
        t.f32("ssm_conv1d", inner, layer=layer, suffix=".bias")
        t.f32("ssm_x", inner, rank + 2 * state, layer=layer)
        t.f32("ssm_dt", rank, inner, layer=layer)
        t.f32("ssm_dt", inner, layer=layer, suffix=".bias")
        t.f32("ssm_a", state, inner, layer=layer, suffix="")
        t.f32("ssm_d", inner, layer=layer, suffix="")
        t.matrix("ssm_out", inner, width, layer=layer)
    fields = {
        "context_length": p["context"],
        "embedding_length": width,
        "block_count": p["layers"],
        "feed_forward_length": 0,
        "attention__head_count": 0,
        "attention__layer_norm_rms_epsilon": 1e-5,
        "ssm__conv_kernel": p["kernel"],
        "ssm__inner_size": inner,
        "ssm__state_size": state,
        "ssm__time_step_rank": rank,
        "vocab_size": p["vocabulary"],
    }
    return _metadata("mamba", sentencepiece(p["vocabulary"]), **fields), t.list


def lfm2(p, type_of):
    """A hybrid: short convolutions, and attention in some layers."""
    width = p["embedding"]
    t = Tensors(type_of)
    t.matrix("token_embd", width, p["vocabulary"])
    t.f32("token_embd_norm", width)  # The output's norm, under this name.
    for layer in range(p["layers"]):
        if layer in p["attention_layers"]:
            _attention(t, layer, p, norms=("attn_q_norm", "attn_k_norm"))
        else:
            t.f32("attn_norm", width, layer=layer)
            t.f32("shortconv.conv", p["kernel"], width, layer=layer)
            t.matrix("shortconv.in_proj", width, 3 * width, layer=layer)
            t.matrix("shortconv.out_proj", width, width, layer=layer)
        _feed_forward(t, layer, p)
    kv_heads = [p["kv_heads"] if layer in p["attention_layers"] else 0
                for layer in range(p["layers"])]
    fields = _attention_fields(p) | {
        "feed_forward_length": p["feed_forward"],
        "attention__head_count_kv": [Typed(INT32, count) for count in kv_heads],
        "shortconv__l_cache": p["kernel"],
    }
    return _metadata("lfm2", sentencepiece(p["vocabulary"]), **fields), t.list


def falcon_h1(p, type_of):
    """A hybrid: attention and Mamba 2 side by side in every layer."""
    width, inner, state, groups = p["embedding"], p["inner"], p["state"], p["groups"]
    convolved = inner + 2 * groups * state
    t = Tensors(type_of)
    _input_and_output(t, p)
    for layer in range(p["layers"]):
        _attention(t, layer, p)
        t.matrix("ssm_in", width, inner + convolved + p["ssm_heads"], layer=layer)
        t.f32("ssm_conv1d", p["kernel"], convolved, layer=layer)
        t.f32("ssm_conv1d", convolved, layer=layer, suffix=".bias")
        t.f32("ssm_dt", p["ssm_heads"], layer=layer, suffix=".bias")
        t.f32("ssm_a", 1, p["ssm_heads"], layer=layer, suffix="")
        t.f32("ssm_d", 1, p["ssm_heads"], layer=layer, suffix="")
        t.matrix("ssm_out", inner, width, layer=layer)
        _feed_forward(t, layer, p, norm_suffix="")
    fields = _attention_fields(p) | {
        "feed_forward_length": p["feed_forward"],
        "ssm__conv_kernel": p["kernel"],
        "ssm__inner_size": inner,
        "ssm__state_size": state,
        "ssm__time_step_rank": p["ssm_heads"],
        "ssm__group_count": groups,
    }
    return _metadata("falcon-h1", sentencepiece(p["vocabulary"]), **fields), t.list


def gpt_oss(p, type_of):
    width, length, experts = p["embedding"], p["expert_feed_forward"], p["experts"]
    query, pair = p["heads"] * p["head_length"], p["kv_heads"] * p["head_length"]
    t = Tensors(type_of)
    _input_and_output(t, p)
    for layer in range(p["layers"]):
        _attention(t, layer, p)
        for name, size in (("attn_q", query), ("attn_k", pair), ("attn_v", pair),
                           ("attn_output", width)):
            t.f32(name, size, layer=layer, suffix=".bias")
        t.f32("attn_sinks", p["heads"], layer=layer)
        t.f32("post_attention_norm", width, layer=layer)
        _experts(t, layer, p)
        t.f32("ffn_gate_inp", experts, layer=layer, suffix=".bias")
        t.f32("ffn_gate_exps", length, experts, layer=layer, suffix=".bias")
        t.f32("ffn_up_exps", length, experts, layer=layer, suffix=".bias")
        t.f32("ffn_down_exps", width, experts, layer=layer, suffix=".bias")
    fields = _attention_fields(p) | {
        "feed_forward_length": length,
        "expert_feed_forward_length": length,
        "expert_count": experts,
        "expert_used_count": p["experts_used"],
        "attention__sliding_window": p["window"],
    }
    return _metadata("gpt-oss", sentencepiece(p["vocabulary"]), **fields), t.list


def bert(p, type_of):
    """An embedding model."""
    width, length = p["embedding"], p["feed_forward"]
    t = Tensors(type_of)
    t.matrix("token_embd", width, p["vocabulary"])
    t.f32("token_types", width, 2)
    t.f32("position_embd", width, p["context"])
    for suffix in (".weight", ".bias"):
        t.f32("token_embd_norm", width, suffix=suffix)
    for layer in range(p["layers"]):
        for name, size in (("attn_q", width), ("attn_k", width), ("attn_v", width),
                           ("attn_output", width)):
            t.matrix(name, width, size, layer=layer)
            t.f32(name, size, layer=layer, suffix=".bias")
        t.matrix("ffn_up", width, length, layer=layer)
        t.f32("ffn_up", length, layer=layer, suffix=".bias")
        t.matrix("ffn_down", length, width, layer=layer)
        t.f32("ffn_down", width, layer=layer, suffix=".bias")
        for name in ("attn_output_norm", "layer_output_norm"):
            for suffix in (".weight", ".bias"):
                t.f32(name, width, layer=layer, suffix=suffix)
    fields = {
        "context_length": p["context"],
        "embedding_length": width,
        "block_count": p["layers"],
        "feed_forward_length": length,
        "attention__head_count": p["heads"],
        "attention__layer_norm_epsilon": 1e-12,
        "attention__causal": False,
        "pooling_type": 1,  # The mean.
    }
    return _metadata("bert", word_piece(p["vocabulary"]), **fields), t.list
