"""What the comparison stands on, on a tiny random model: `python -m unittest` in this folder. No download."""

import os
import unittest

import torch
from kvpress import KnormPress
from transformers import LlamaConfig, LlamaForCausalLM

from defensive import Masked, MaskedAcrossLayers
from kvpress_eval import checked
from policies import kept_count, policies, ratio
from session import Reader, attention, greedy, prefill

torch.manual_seed(1)
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
MODEL = LlamaForCausalLM(LlamaConfig(vocab_size=97, attn_implementation="sdpa", **SHAPE)).eval()
# A checkout of DefensiveKV, if there is one, for the policies that need it.
DEFENSIVE = os.environ.get("DEFENSIVE")
PROMPT, QUESTION = torch.randint(0, 97, (401,)).tolist(), [5, 6, 7, 8]


class MaskedNorms(Masked, KnormPress):
    """The smallest keys of a layer."""


class NormsAcrossLayers(MaskedAcrossLayers, KnormPress):
    """The smallest keys of all layers."""


class Numbers:
    """A text whose tokens are numbers."""

    ends = ()

    def decode(self, ids):
        return " ".join(map(str, ids))


def compressed(name, keep, floor=0.2):
    """The prompt under a policy."""
    make = policies(32, 7, "max", floor, DEFENSIVE)[name]
    with attention(MODEL, "eager" if name == "observedAttention" else "sdpa"):
        press = make and make(ratio(make, len(PROMPT), keep))
        return checked(prefill(MODEL, PROMPT, press, with_positions=True), name, keep)


@torch.inference_mode()
def answers(prompt, question):
    """Greedy tokens and the logits behind the question."""
    reader = Reader(MODEL, prompt)
    logits = reader.read(question)
    said = greedy(reader, Numbers(), logits, 8, [])[0]
    reader.take_back()
    return said, logits


class Test(unittest.TestCase):
    """Each policy against what can be known about it."""

    def setUp(self):
        mode = torch.inference_mode()
        mode.__enter__()
        self.addCleanup(mode.__exit__, None, None, None)

    def test_the_full_cache_says_what_generate_says(self):
        prompt = compressed("full", 1)
        said, fed = greedy(Reader(MODEL, prompt), Numbers(), prompt.logits, 8, [])
        ids = MODEL.generate(torch.tensor([PROMPT]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
        self.assertEqual(said, Numbers().decode(ids[0, len(PROMPT) :].tolist()))
        self.assertEqual(fed, 7)

    def test_every_policy_keeps_exactly_its_budget(self):
        for name in policies(32, 7, "max", 0.2, DEFENSIVE):
            for keep in (0.9, 0.3, 0.29):
                prompt = compressed(name, keep)
                count = len(PROMPT) if name == "full" else kept_count(len(PROMPT), keep)
                found = [len(head) for layer in prompt.kept for head in layer]
                self.assertEqual(found, [length for layer in prompt.lengths for length in layer])
                self.assertAlmostEqual(sum(found), count * 6, delta=6 if name == "pyramidKV" else 0)

    def test_ratios_give_back_their_counts(self):
        make = policies(32, 7, "max", 0.2)["knorm"]
        for tokens in range(1, 3000, 7):
            for keep in (0.05, 0.1, 0.2, 0.29, 0.5, 0.7):
                kept = max(1, int(tokens * (1 - ratio(make, tokens, keep))))
                self.assertEqual(kept, kept_count(tokens, keep))

    def test_masked_slots_are_as_good_as_removed_ones(self):
        # With the whole budget guaranteed to each head, Ada-KV keeps what SnapKV keeps: one masks, the other removes.
        snap = compressed("snapKV", 0.3)
        removed = answers(snap, QUESTION)[1]
        ada = compressed("adaSnapKV", 0.3, floor=1.0)
        self.assertEqual(snap.kept, ada.kept)
        self.assertLess(snap.stored, ada.stored)
        torch.testing.assert_close(answers(ada, QUESTION)[1], removed, atol=1e-4, rtol=1e-4)

    def test_the_best_of_a_layer_or_of_all_stay(self):
        full = prefill(MODEL, PROMPT)
        norms = torch.stack([layer.keys[0].norm(dim=-1) for layer in full.cache.layers])
        count = kept_count(len(PROMPT), 0.3)
        for kind, groups in ((MaskedNorms, norms.flatten(1)), (NormsAcrossLayers, norms.flatten()[None])):
            found = prefill(MODEL, PROMPT, kind(ratio(kind, len(PROMPT), 0.3)), with_positions=True)
            smallest = count * 6 // len(groups)
            bounds = groups.sort().values[:, smallest - 1].view(-1, 1).expand(-1, 3 // len(groups)).flatten()
            expected = [[(head <= bound).nonzero().flatten().tolist() for head in layer] for layer, bound in zip(norms, bounds)]
            self.assertEqual(found.kept, expected)

    def test_a_question_leaves_no_trace(self):
        for name in ("full", "adaSnapKV", "pyramidKV", *(["layerDefensiveKV"] if DEFENSIVE else [])):
            prompt = compressed(name, 0.5)
            first = answers(prompt, QUESTION)
            answers(prompt, [50, 51])
            again = answers(prompt, QUESTION)
            self.assertEqual(first[0], again[0])
            torch.testing.assert_close(first[1], again[1])

    def test_streaming_keeps_the_first_and_the_last(self):
        expected = [0, 1, 2, 3, *range(401 - 116, 401)]
        self.assertEqual(compressed("streamingLLM", 0.3).kept, [[expected] * 2] * 3)


if __name__ == "__main__":
    unittest.main()
