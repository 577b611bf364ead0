"""One prompt under a press: prefill, what was kept, greedy answers. The order of things is that of kvpress's own pipeline."""

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from transformers import DynamicCache


@dataclass
class Prefill:
    """A compressed prompt."""

    cache: DynamicCache
    tokens: int
    logits: torch.Tensor
    lengths: list  # slots that attention still sees, [layer][KV head]
    stored: int  # slots in memory, over all layers and KV heads
    kept: list | None  # their positions, [layer][KV head][slot], if asked for
    prefill_seconds: float
    compress_seconds: float


@contextmanager
def attention(model, implementation):
    """The model with another implementation of attention."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def watched(press):
    """Has `press` note its seconds and, layer by layer, the keys before and after. Gives the notes."""
    compress, notes = press.compress, {"seconds": 0.0, "layers": []}

    def noted(module, hidden_states, keys, values, attentions, kwargs):
        start = time.perf_counter()
        result = compress(module, hidden_states, keys, values, attentions, kwargs)
        notes["seconds"] += time.perf_counter() - start
        notes["layers"].append((keys, result[0]))
        return result

    press.compress = noted
    return notes


def visible(module, keys):
    """Which stored slots of a layer attention sees, [KV head, slot]: kvpress's AdaKV masks and keeps everything in memory."""
    mask = torch.ones(keys.shape[1:3], dtype=torch.bool)
    if getattr(module, "masked_key_indices", None) is not None:
        _, heads, slots = module.masked_key_indices
        mask[heads, slots] = False
    return mask


def positions(before, after, mask):
    """Original positions of what is visible in `after`, ascending: a pruned key is the row of `before` that has the same bytes."""
    result = []
    for head in range(before.shape[1]):
        at = {row.tobytes(): position for position, row in enumerate(before[0, head].numpy())}
        assert len(at) == before.shape[2], "two positions have the same key"
        result.append(sorted(at[row.tobytes()] for row in after[0, head][mask[head]].numpy()))
    return result


def prefill(model, ids, press=None, with_positions=False):
    """Reads `ids` into a new cache, which `press` compresses layer by layer. The logits are those of the uncompressed prompt.

    AdaKV's masks lie in the model, so that only the latest prompt can be read on.
    """
    cache = DynamicCache()
    notes = watched(press) if press else {"seconds": 0.0, "layers": []}
    torch.manual_seed(0)  # for RandomPress, which draws from the common generator
    start = time.perf_counter()
    with press(model) if press else nullcontext():
        output = model(torch.tensor([ids]), past_key_values=cache, logits_to_keep=1)
    seconds = time.perf_counter() - start
    modules = [layer.self_attn for layer in model.model.layers]
    keys = [layer.keys for layer in cache.layers]
    masks = [visible(module, layer) for module, layer in zip(modules, keys)]
    befores = [before for before, _ in notes["layers"]] or keys
    return Prefill(
        cache=cache,
        tokens=len(ids),
        logits=output.logits[0, -1],
        lengths=[mask.sum(1).tolist() for mask in masks],
        stored=sum(mask.numel() for mask in masks),
        kept=[positions(*layer) for layer in zip(befores, keys, masks)] if with_positions else None,
        prefill_seconds=seconds - notes["seconds"],
        compress_seconds=notes["seconds"],
    )


class Reader:
    """Reads on behind a compressed prompt, at the original positions, and takes everything back in the end."""

    def __init__(self, model, prompt):
        self.model, self.cache, self.position = model, prompt.cache, prompt.tokens
        self.lengths = [layer.keys.shape[2] for layer in self.cache.layers]

    def read(self, ids):
        """Logits behind `ids`."""
        # A pass has one causal mask, as wide as its first layer: where layers differ in length (PyramidKV), kvpress's own
        # pipeline fails on a question of several tokens. One at a time they need no mask.
        step = 1 if len(set(self.lengths)) > 1 else len(ids)
        for at in range(0, len(ids), step):
            part = torch.tensor([ids[at : at + step]])
            places = torch.arange(self.position, self.position + part.shape[1])[None]
            logits = self.model(part, past_key_values=self.cache, position_ids=places, logits_to_keep=1).logits[0, -1]
            self.position += part.shape[1]
        return logits

    def take_back(self):
        """Leaves the cache as it was behind the prompt."""
        for layer, length in zip(self.cache.layers, self.lengths):
            layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]


def greedy(reader, text, logits, max_tokens, stops):
    """(text, tokens that were fed) of the greedy continuation, which ends at an end token or before a stop text."""
    ids, said = [], ""
    while (token := int(logits.argmax())) not in text.ends:
        ids.append(token)
        said = text.decode(ids)
        ends = [said.index(stop) for stop in stops if stop in said]
        if ends:
            said = said[: min(ends)]
        if ends or len(ids) == max_tokens:
            break
        logits = reader.read([token])
    return said, max(0, len(ids) - 1)
