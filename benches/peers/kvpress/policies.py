"""kvpress's presses by headwise's names, with headwise's parameters."""

from kvpress import (
    AdaKVPress,
    CompactorPress,
    CURPress,
    ExpectedAttentionPress,
    KeyDiffPress,
    KnormPress,
    LagKVPress,
    ObservedAttentionPress,
    PyramidKVPress,
    RandomPress,
    SnapKVPress,
    StreamingLLMPress,
    TOVAPress,
)
from torch.nn import functional as F

from defensive import defensive_presses

# Policies whose layers or heads keep different numbers of slots; of the second, layers too compete.
RAGGED = ("pyramidKV", "adaSnapKV", "adaExpectedAttention", "defensiveKV", "layerDefensiveKV")
ACROSS_LAYERS = ("layerDefensiveKV",)


class MaxPooled:
    """SnapKV's scores with max pooling, once per KV head, as in the AdaKV repository and in headwise's defaults.

    kvpress itself knows average pooling only, before the mean over the group.
    """

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        rotation = kwargs["position_embeddings"]
        weights = self.compute_window_attention(module, hidden_states, keys, self.window_size, rotation)
        scores = weights.mean(-2).unflatten(1, (keys.shape[1], -1)).mean(2)
        scores = F.max_pool1d(scores, self.kernel_size, stride=1, padding=self.kernel_size // 2)
        return F.pad(scores, (0, self.window_size), value=scores.max().item() + 1)


class MaxSnapKV(MaxPooled, SnapKVPress):
    """SnapKV with max pooling."""


class MaxPyramidKV(MaxPooled, PyramidKVPress):
    """PyramidKV with max pooling."""


def policies(window, kernel, pool, floor, defensive=None):
    """Makers of presses: name → (compression ratio → press). Those of DefensiveKV need a checkout of it."""
    snap_kv, pyramid_kv = {"max": (MaxSnapKV, MaxPyramidKV), "average": (SnapKVPress, PyramidKVPress)}[pool]
    observed = {"window_size": window, "kernel_size": kernel}
    ada = lambda press: AdaKVPress(press, alpha_safeguard=floor)
    makers = {
        "full": None,
        # With a seed of its own RandomPress would keep the same positions in every layer.
        "random": lambda ratio: RandomPress(ratio),
        "streamingLLM": lambda ratio: StreamingLLMPress(ratio, n_sink=4),
        "knorm": lambda ratio: KnormPress(ratio),
        "keyDiff": lambda ratio: KeyDiffPress(ratio),
        "tova": lambda ratio: TOVAPress(ratio),
        "observedAttention": lambda ratio: ObservedAttentionPress(ratio),
        "snapKV": lambda ratio: snap_kv(ratio, **observed),
        "pyramidKV": lambda ratio: pyramid_kv(ratio, **observed, beta=20),
        "adaSnapKV": lambda ratio: ada(snap_kv(ratio, **observed)),
        "lagKV": lambda ratio: LagKVPress(ratio),
        "cur": lambda ratio: CURPress(ratio),
        "expectedAttention": lambda ratio: ExpectedAttentionPress(ratio),
        # `adakv_expected_attention_e2` of the evaluation in kvpress's repository.
        "adaExpectedAttention": lambda ratio: ada(ExpectedAttentionPress(ratio, epsilon=1e-2)),
        "compactor": lambda ratio: CompactorPress(ratio),
    }
    if defensive:
        defensive_kv, layer_defensive_kv = defensive_presses(defensive)
        makers["defensiveKV"] = lambda ratio: defensive_kv(compression_ratio=ratio)
        makers["layerDefensiveKV"] = lambda ratio: layer_defensive_kv(compression_ratio=ratio)
    return makers


def kept_count(tokens, keep):
    """Slots a head on average, as headwise counts them."""
    return max(1, int(tokens * keep))


def ratio(press, tokens, keep):
    """The compression ratio at which `press` keeps exactly `kept_count`.

    kvpress cuts `tokens * (1 - ratio)` off to an integer, so it is put halfway between two of them, out of reach of rounding;
    PyramidKVPress rounds it to the nearest instead, and presses that count the slots of all heads at once have a margin of their own.
    """
    count = kept_count(tokens, keep)
    made = press(0.5)
    margin = 0 if isinstance(made, PyramidKVPress) else getattr(made, "margin", 0.5)
    return max(0.0, 1 - (count + margin) / tokens)
