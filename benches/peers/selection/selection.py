"""Times adaSnapKV's way from window queries to a compacted cache in torch, and in kvpress if it is installed.

Reads names of paths on standard input, one a line; runs each once over all layers and prints its milliseconds. Everything is
float32, on the CPU. The shape comes as JSON: layers, kvHeads, queryHeads, headDim, slots, threads, keep.
"""

import json
import sys
import time

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    sys.exit("torch is not installed here: pip install -r benches/peers/selection/requirements.txt, then --python that Python")

WINDOW = 32
FLOOR = 0.2
KERNEL = 7

shape = json.loads(sys.argv[1])
LAYERS, KV_HEADS, QUERY_HEADS = shape["layers"], shape["kvHeads"], shape["queryHeads"]
HEAD_DIM, SLOTS, KEEP = shape["headDim"], shape["slots"], shape["keep"]


def torch_layer(queries, keys, values):
    """Compacted keys and values of each KV head, in the order of their slots.

    queries [KV head, query head of its group * WINDOW, dim]; keys and values [KV head, slot, dim].
    """
    past = SLOTS - WINDOW
    logits = queries @ keys.transpose(1, 2) * HEAD_DIM**-0.5
    logits[:, :, past:].masked_fill_(LATER, float("-inf"))
    scores = logits.softmax(-1)[:, :, :past].mean(1)
    scores = F.max_pool1d(scores, KERNEL, stride=1, padding=KERNEL // 2)
    # The heads of a layer compete for its budget; a share of it is theirs in any case.
    budget = (int(KEEP * SLOTS) - WINDOW) * KV_HEADS
    won = torch.bincount(scores.flatten().topk(budget).indices // past, minlength=KV_HEADS)
    counts = (won * (1 - FLOOR) + FLOOR * budget / KV_HEADS).round().int().tolist()
    window = torch.arange(past, SLOTS)
    result = []
    for head, count in enumerate(counts):
        slots = torch.cat((scores[head].topk(count).indices.sort().values, window))
        result += [keys[head, slots], values[head, slots]]
    return result


def kvpress_layer():
    """kvpress's own AdaKVPress over SnapKVPress: queries projected and rotated, slots chosen and masked, nothing moved."""
    from kvpress import AdaKVPress, SnapKVPress
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    hidden = QUERY_HEADS * HEAD_DIM
    config = LlamaConfig(
        hidden_size=hidden,
        num_attention_heads=QUERY_HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=SLOTS,
        attn_implementation="sdpa",
    )
    attention = LlamaAttention(config, layer_idx=0)
    states = torch.randn(1, SLOTS, hidden)
    rotation = {"position_embeddings": LlamaRotaryEmbedding(config)(states, torch.arange(SLOTS)[None])}
    press = AdaKVPress(SnapKVPress(1 - KEEP, window_size=WINDOW, kernel_size=KERNEL), alpha_safeguard=FLOOR)

    def layer(_, keys, values):
        press.compress(attention, states, keys[None], values[None], None, rotation)
        return attention.masked_key_indices

    return layer


# Row r of a window may not look at its slots after r; the rows of a group's query heads follow each other.
LATER = torch.ones(WINDOW, WINDOW, dtype=torch.bool).triu(1).repeat(QUERY_HEADS // KV_HEADS, 1)


@torch.inference_mode()
def main():
    torch.set_num_threads(shape["threads"])
    torch.manual_seed(1)
    rows = QUERY_HEADS // KV_HEADS * WINDOW
    sizes = ((KV_HEADS, rows, HEAD_DIM), (KV_HEADS, SLOTS, HEAD_DIM), (KV_HEADS, SLOTS, HEAD_DIM))
    cache = [tuple(torch.randn(size) for size in sizes) for _ in range(LAYERS)]
    paths = {"torch": torch_layer}
    version = f"torch {torch.__version__}"
    try:
        paths["kvpress"] = kvpress_layer()
        from importlib.metadata import version as version_of

        version += f", kvpress {version_of('kvpress')}, transformers {version_of('transformers')}"
    except ImportError as error:
        print(f"kvpress is not installed ({error}): torch alone", file=sys.stderr)
    print(json.dumps({"version": version, "paths": list(paths)}), flush=True)
    for line in sys.stdin:
        layer = paths[line.strip()]
        start = time.perf_counter()
        # Results are held until the end, as a cache would hold them.
        results = [layer(*tensors) for tensors in cache]
        milliseconds = (time.perf_counter() - start) * 1e3
        del results
        print(json.dumps(milliseconds), flush=True)


main()
