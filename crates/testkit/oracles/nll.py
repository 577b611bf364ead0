"""Mean next-token NLL of nll.txt by the float32 reference, checked against llama.cpp; writes smollm2-nll.json.

Usage: nll.py MODEL.gguf llama.json llama-f32.json   (the last two by llama.mjs, see README.md)
"""

import json
import pathlib
import sys

import numpy as np

from reference import Llama, compact, log_probabilities, sha256

here = pathlib.Path(__file__).parent
model_path, quantized_path, float_path = sys.argv[1:]
quantized, exact = (json.loads(pathlib.Path(path).read_text()) for path in (quantized_path, float_path))
tokens = quantized["text"]
assert tokens == exact["text"]

model = Llama(model_path)
logits = model.forward(tokens[:-1], model.new_cache())
nll = -log_probabilities(logits)[np.arange(len(tokens) - 1), tokens[1:]]


def compare(other):
    difference = np.array(other["nll"]) - nll
    return {
        "mean_nll": round(float(np.mean(other["nll"])), 6),
        "largest_difference_per_token": round(float(np.abs(difference).max()), 6),
        "mean_absolute_difference": round(float(np.abs(difference).mean()), 6),
    }


result = {
    "text": "nll.txt",
    "model_sha256": sha256(model_path),
    "command": "python nll.py SmolLM2-135M-Instruct.Q4_1.gguf llama.json llama-f32.json",
    "convention": "no BOS; nll[i] = -ln p(tokens[i + 1] | tokens[..= i]), in nats; mean over all of nll",
    "mean_nll": round(float(nll.mean()), 6),
    "checks": {
        "llama.cpp": quantized["release"],
        "same_file": compare(quantized),
        "float32_weights_and_cache": compare(exact),
    },
    "tokens": tokens,
    "nll": [round(float(value), 4) for value in nll],
}
assert result["checks"]["float32_weights_and_cache"]["largest_difference_per_token"] < 2e-3, result["checks"]
assert abs(result["checks"]["same_file"]["mean_nll"] - result["mean_nll"]) < 0.02, result["checks"]
(here / "smollm2-nll.json").write_text(compact(result))
print(json.dumps({key: result[key] for key in ("mean_nll", "checks")}, indent=2), len(tokens), "tokens")
