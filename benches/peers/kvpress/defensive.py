"""DefensiveKV and Layer-DefensiveKV (arXiv 2510.13334), which kvpress lacks: the scores of their authors' fork, kvpress's attention.

The fork's cache and attention need CUDA, its scores do not. They are taken from a checkout as they are, and what the fork removes
is masked, as AdaKVPress masks it.
"""

import sys
from functools import cache
from types import ModuleType, SimpleNamespace

import kvpress
import torch


def mask_all_but(module, scores, count):
    """Has attention see the `count` best of a layer's slots, given as [KV head, slot], and no others."""
    masked = torch.ones(scores.numel(), dtype=torch.bool)
    masked[scores.flatten().topk(count).indices] = False
    heads, slots = masked.view(scores.shape).nonzero(as_tuple=True)
    module.masked_key_indices = (torch.zeros_like(heads), heads, slots)


class Masked:
    """The best of a layer stay, whichever heads have them; nothing is safe."""

    # The fork rounds down once, behind the product with heads and layers.
    margin = 1e-3

    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        self.select(module, self.layer_scores(module, hidden_states, keys, values, attentions, kwargs))
        return keys, values

    def layer_scores(self, module, hidden_states, keys, values, attentions, kwargs):
        _, heads, tokens, _ = keys.shape
        metadata = SimpleNamespace(bsz=1, num_key_value_heads=heads, head_lens=[tokens])
        kwargs = kwargs | {"metadata": metadata}
        return self.score(module, hidden_states, keys, values, attentions, kwargs).view(heads, tokens)

    def select(self, module, scores):
        mask_all_but(module, scores, int(scores.numel() * (1 - self.compression_ratio)))


class MaskedAcrossLayers(Masked):
    """The best of all layers stay. As in the fork, a layer keeps as many of its best as it won, behind the last layer."""

    def select(self, module, scores):
        if module.layer_idx == 0:
            self.layers = []
        self.layers.append((module, scores))
        if module.layer_idx < module.config.num_hidden_layers - 1:
            return
        everything = torch.stack([scores for _, scores in self.layers])
        best = everything.flatten().topk(int(everything.numel() * (1 - self.compression_ratio))).indices
        won = (best // scores.numel()).bincount(minlength=len(self.layers)).tolist()
        for (module, scores), count in zip(self.layers, won):
            mask_all_but(module, scores, count)


@cache
def defensive_presses(folder):
    """(DefensiveKV, Layer-DefensiveKV) of a checkout of the fork; its modules of the same names as kvpress's are not used."""
    kvpress.presses.__path__.append(f"{folder}/kvpress/presses")
    # The plain form of the fork's Triton kernel.
    norms = ModuleType("kvpress.ops.vw_norm")
    norms.vw_l1norm = lambda values, output: (values @ output).norm(p=1, dim=-1)
    sys.modules["kvpress.ops.vw_norm"] = norms
    from kvpress.presses.efficient_defensivekv_press import EfficientDefensiveKVPress
    from kvpress.presses.efficient_layer_defensivekv_press import EfficientLayerDefensiveKVPress

    class DefensiveKV(Masked, EfficientDefensiveKVPress):
        """Heads of a layer compete."""

    class LayerDefensiveKV(MaskedAcrossLayers, EfficientLayerDefensiveKVPress):
        """All layers and heads compete."""

    return DefensiveKV, LayerDefensiveKV
