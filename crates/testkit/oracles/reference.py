"""A float32 reference of a GGUF `llama` decoder, written for clarity and read by `nll.py` and `greedy.py`.

Weights are dequantized to float32 by the `gguf` package; activations are never quantized and the K/V cache is float32, so this
is what the file *means*, without the rounding that an engine adds. numpy only.
"""

import hashlib
import json
import re

import gguf
import numpy as np


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def compact(value):
    """Indented JSON with every list of numbers on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return re.sub(r"\[[-\d.e,\s]*\]", lambda list_: re.sub(r"\s+", " ", list_[0]), text) + "\n"


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Llama:
    """`llama` architecture with tied embeddings, grouped queries and plain RoPE; anything else is refused."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        meta = lambda key: reader.fields[key].contents()
        assert meta("general.architecture") == "llama"
        assert not any(key.startswith("llama.rope.scaling") for key in reader.fields), "RoPE scaling is not implemented"
        self.layers = meta("llama.block_count")
        self.q_heads, self.kv_heads = meta("llama.attention.head_count"), meta("llama.attention.head_count_kv")
        self.eps = np.float32(meta("llama.attention.layer_norm_rms_epsilon"))
        self.head_dim = meta("llama.embedding_length") // self.q_heads
        assert meta("llama.rope.dimension_count") == self.head_dim
        self.theta = meta("llama.rope.freq_base")
        # Shape after dequantize: [out][in].
        self.w = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
        assert "output.weight" not in self.w and "rope_freqs.weight" not in self.w

    def new_cache(self):
        empty = np.zeros((self.kv_heads, 0, self.head_dim), np.float32)
        return [(empty, empty) for _ in range(self.layers)]

    def rope(self, x, positions):
        """x: [T][H][D]. GGUF files of this architecture are permuted so that the pair (2i, 2i + 1) is rotated together."""
        frequencies = self.theta ** (-np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim)
        angle = positions[:, None] * frequencies[None]
        cos, sin = (f(angle).astype(np.float32)[:, None, :] for f in (np.cos, np.sin))
        even, odd = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2] = even * cos - odd * sin
        out[..., 1::2] = even * sin + odd * cos
        return out

    def attend(self, q, k, v):
        """q: [T][Hq][D], k and v: [Hkv][S][D] with S >= T; query i sees the slots up to S - T + i."""
        rows, slots = q.shape[0], k.shape[1]
        group = self.q_heads // self.kv_heads
        future = np.arange(slots)[None] > np.arange(slots - rows, slots)[:, None]
        out = np.empty_like(q)
        for head in range(self.q_heads):
            logits = q[:, head] @ k[head // group].T * np.float32(self.head_dim**-0.5)
            logits[future] = -np.inf
            out[:, head] = softmax(logits) @ v[head // group]
        return out.reshape(rows, -1)

    def forward(self, tokens, cache):
        """Appends `tokens` to `cache` and returns the logits of every row: [T][vocab]."""
        first = cache[0][0].shape[1]
        positions = np.arange(first, first + len(tokens), dtype=np.float64)
        split = lambda x: x.reshape(len(tokens), -1, self.head_dim)
        x = self.w["token_embd.weight"][tokens]
        for layer in range(self.layers):
            w = lambda name: self.w[f"blk.{layer}.{name}.weight"]
            h = rms_norm(x, w("attn_norm"), self.eps)
            q = self.rope(split(h @ w("attn_q").T), positions)
            k = self.rope(split(h @ w("attn_k").T), positions).transpose(1, 0, 2)
            v = split(h @ w("attn_v").T).transpose(1, 0, 2)
            cache[layer] = tuple(np.concatenate(pair, axis=1) for pair in zip(cache[layer], (k, v)))
            x = x + self.attend(q, *cache[layer]) @ w("attn_output").T
            h = rms_norm(x, w("ffn_norm"), self.eps)
            x = x + (silu(h @ w("ffn_gate").T) * (h @ w("ffn_up").T)) @ w("ffn_down").T
        return rms_norm(x, self.w["output_norm.weight"], self.eps) @ self.w["token_embd.weight"].T


def log_probabilities(logits):
    """log softmax in float64, so that the sum over the vocabulary adds no rounding of its own."""
    logits = logits.astype(np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
