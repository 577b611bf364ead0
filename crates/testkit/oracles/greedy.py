"""32 greedy tokens after each prompt of prompts.json, by the float32 reference and by llama.cpp; writes smollm2-greedy.json.

Usage: greedy.py MODEL.gguf llama.json llama-f32.json   (the last two by llama.mjs, see README.md)
"""

import json
import pathlib
import sys

import numpy as np

from reference import Llama, compact, sha256

here = pathlib.Path(__file__).parent
model_path, quantized_path, float_path = sys.argv[1:]
quantized, exact = (json.loads(pathlib.Path(path).read_text())["prompts"] for path in (quantized_path, float_path))
model = Llama(model_path)


def rounded(values):
    return [round(float(value), 4) for value in values]


def generate(prompt, steps, teacher=None):
    """Greedy tokens with the margin (first - second logit) before each, and the logits of the prompt's last row. With a
    `teacher` the tokens fed are the teacher's and the tokens returned are what the reference would have said instead."""
    cache = model.new_cache()
    row = model.forward(prompt, cache)[-1]
    tokens, margins, last = [], [], row
    for step in range(steps):
        second, first = np.argsort(row, kind="stable")[-2:]
        tokens.append(int(first))
        margins.append(row[first] - row[second])
        if step + 1 < steps:
            row = model.forward([teacher[step] if teacher else int(first)], cache)[-1]
    return tokens, rounded(margins), last


def shared_prefix(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


cases = []
for q4, f32 in zip(quantized, exact):
    assert q4["prompt"] == f32["prompt"]
    steps = len(q4["tokens"])
    tokens, margins, last = generate(q4["prompt"], steps)
    forced, forced_margins, _ = generate(q4["prompt"], steps, q4["tokens"])
    # The reference is itself checked: llama.cpp on float32 weights says the same wherever the choice is not a tie.
    agreed = shared_prefix(tokens, f32["tokens"])
    assert agreed == steps or margins[agreed] < 2e-3, (q4["name"], agreed, margins[agreed])
    assert np.allclose(margins[:agreed], f32["margins"][:agreed], atol=5e-3), q4["name"]
    top = np.argsort(-last, kind="stable")[:8]
    cases.append(
        {
            "name": q4["name"],
            "text": q4["text"],
            "prompt": q4["prompt"],
            "float32": {
                "tokens": tokens,
                "margins": margins,
                "agrees_with_llama_cpp_on_float32_weights": agreed,
                "top_tokens": [int(token) for token in top],
                "top_logits": rounded(last[top]),
            },
            "llama_cpp": {
                "tokens": q4["tokens"],
                "margins": rounded(q4["margins"]),
                "text": q4["text_out"],
                "float32_forced_tokens": forced,
                "float32_forced_margins": forced_margins,
            },
        }
    )
    print(f"{q4['name']:8} float32 agrees with llama.cpp float32 {agreed:2}, with the file as it is {shared_prefix(tokens, q4['tokens']):2};"
          f" smallest margin {min(margins):.4f}; largest forced shift {np.abs(np.array(forced_margins) - q4['margins'])[np.array(forced) == q4['tokens']].max():.3f}")

result = {
    "model_sha256": sha256(model_path),
    "command": "python greedy.py SmolLM2-135M-Instruct.Q4_1.gguf llama.json llama-f32.json",
    "convention": "no BOS; margins[i] = first - second logit in front of tokens[i]; top_* are the first step's eight highest",
    "cases": cases,
}
(here / "smollm2-greedy.json").write_text(compact(result))
