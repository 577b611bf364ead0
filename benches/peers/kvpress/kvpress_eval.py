"""Runs kvpress on the prompts, weights and budgets of `headwise eval` and writes the same kind of result file. See README.md."""

import argparse
import json
import platform
import sys
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from statistics import mean

import torch

from model import load
from policies import ACROSS_LAYERS, RAGGED, kept_count, policies, ratio
from session import Reader, attention, greedy, prefill

METRICS = {
    "contains": lambda text, answers: float(any(answer in text for answer in answers)),
    "containsAll": lambda text, answers: mean(float(answer in text) for answer in answers),
}
METRICS["containsAny"] = METRICS["contains"]


def arguments():
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    listed = lambda of: lambda value: [of(part) for part in value.split(",")]
    parser.add_argument("--model", required=True, help="GGUF file or Hugging Face folder")
    parser.add_argument("--file", required=True, type=Path, help="prompts, one JSON object a line")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kept", type=Path, help="also writes the kept positions, one JSON object a line")
    parser.add_argument("--policy", type=listed(str), default=["full", "snapKV", "adaSnapKV"])
    parser.add_argument("--keep", type=listed(float), default=[0.5, 0.2, 0.1])
    parser.add_argument("--mode", type=listed(str), default=["aware", "agnostic"])
    parser.add_argument("--limit", type=int, help="first items of the file")
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--window", type=int, default=32, help="SnapKV's observation window")
    parser.add_argument("--kernel", type=int, default=7, help="SnapKV's pooling kernel")
    parser.add_argument("--pool", choices=["max", "average"], default="max", help="SnapKV's pooling")
    parser.add_argument("--ada-floor", type=float, default=0.2)
    parser.add_argument("--defensive", type=Path, help="a checkout of DefensiveKV, for defensiveKV and layerDefensiveKV")
    return parser.parse_args()


def known(options):
    """The policies that there are."""
    return policies(options.window, options.kernel, options.pool, options.ada_floor, options.defensive)


def prompts(path, limit):
    """The items of the file, those with the same context behind each other."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    items = [json.loads(line) for line in lines][:limit]
    unknown = {item.get("metric", "contains") for item in items} - set(METRICS)
    if unknown:
        sys.exit(f"metric {', '.join(unknown)}: only {', '.join(METRICS)} are known here")
    first = {}
    for at, item in enumerate(items):
        first.setdefault(item["context"], at)
    return sorted(items, key=lambda item: first[item["context"]])


def checked(prompt, name, keep):
    """`prompt`, which must have kept exactly what headwise would keep, however the layers and heads share it."""
    count = prompt.tokens if name == "full" else kept_count(prompt.tokens, keep)
    for heads in [sum(prompt.lengths, [])] if name in ACROSS_LAYERS else prompt.lengths:
        # PyramidKVPress rounds layer by layer: its sum may be a few slots off.
        assert name == "pyramidKV" or sum(heads) == count * len(heads), f"{name} at {keep} kept {heads}, not {count} each"
        assert name in RAGGED or set(heads) == {count}, f"{name} at {keep} kept {heads}"
    return prompt


def run(model, text, items, options, name, keep, mode, write_kept):
    """One record an item: a policy at a budget in a mode."""
    make = known(options)[name]
    prompt, context = None, None
    for item in items:
        started = time.perf_counter()
        ids = text.bos + text.encode(item["context"] + (item["question"] if mode == "aware" else ""))
        record = {"item": item, "tokens": len(ids), "fed": 0, "decode": 0.0, "score": 0.0, "text": ""}
        if mode == "aware" or context != item["context"]:
            context = item["context"]
            press = make and make(ratio(make, len(ids), keep))
            prompt = checked(prefill(model, ids, press, write_kept is not None), name, keep)
            if write_kept:
                at = {"policy": name, "keep": keep, "mode": mode, "task": item["task"], "id": item["id"]}
                write_kept(at | {"tokens": len(ids), "kept": prompt.kept})
        record |= {"prefill": prompt.prefill_seconds, "compress": prompt.compress_seconds, "stored": prompt.stored}
        record["slots"] = sum(map(sum, prompt.lengths))
        reader = Reader(model, prompt)
        try:
            logits = prompt.logits
            if mode == "agnostic":
                start = time.perf_counter()
                logits = reader.read(text.encode(item["question"]))
                record["prefill"] += time.perf_counter() - start
            start = time.perf_counter()
            most = item.get("maxTokens", options.max_tokens)
            record["text"], record["fed"] = greedy(reader, text, logits, most, item.get("stop", []))
            record["decode"] = time.perf_counter() - start
            record["score"] = METRICS[item.get("metric", "contains")](record["text"], item["answers"])
        except ValueError as error:  # AdaKV's attention found no key that all queries ignore
            record["error"] = str(error)
        reader.take_back()
        record["wall"] = time.perf_counter() - started
        print(
            f"{mode} {name} {keep} {item['task']}/{item['id']}: {record['tokens']} tokens, prefill {record['prefill']:.2f} s, "
            f"compress {record['compress']:.3f} s, decode {record['decode']:.2f} s for {record['fed']}, "
            f"{record['score']:g} {record['text']!r}{' ' + record['error'] if 'error' in record else ''}",
            file=sys.stderr,
        )
        yield record


def row(records, name, keep, mode, task, slot_bytes):
    """The line of a task in the result file."""
    total = lambda field: round(sum(record[field] for record in records), 4)
    result = lambda record: {
        "id": record["item"]["id"],
        "correct": record["score"] == 1,
        "score": record["score"],
        "text": record["text"],
        "tokens": record["tokens"],
    } | ({"error": record["error"]} if "error" in record else {})
    items = [result(record) for record in records]
    return {
        "policy": name,
        "keep": keep,
        "budget": None if name == "full" else {"keep": keep},
        "mode": mode,
        "task": task,
        "correct": sum(item["correct"] for item in items),
        "total": len(items),
        "errors": sum("error" in item for item in items),
        "score": mean(item["score"] for item in items),
        "keptSlots": round(mean(record["slots"] for record in records), 2),
        "keptBytes": round(mean(record["slots"] for record in records) * slot_bytes),
        "physicalBytes": round(mean(record["stored"] for record in records) * slot_bytes),
        "prefillSeconds": total("prefill"),
        "compressSeconds": total("compress"),
        "decodeSeconds": total("decode"),
        "decodeTokens": total("fed"),
        "wallSeconds": total("wall"),
        "items": items,
    }


@torch.inference_mode()
def main():
    """Every policy at every budget in every mode; the file is written anew after each."""
    options = arguments()
    unknown = set(options.policy) - set(known(options)) | set(options.mode) - {"aware", "agnostic"}
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: not known; policies are {', '.join(known(options))}")
    torch.set_num_threads(options.threads)
    items = prompts(options.file, options.limit)
    model, text = load(options.model)
    slot_bytes = 2 * model.config.head_dim * model.dtype.itemsize
    tunable = ("window", "kernel", "pool", "ada_floor", "max_tokens", "threads")
    results = {
        "engine": f"kvpress {version('kvpress')}",
        "model": Path(options.model).name,
        "versions": {name: version(name) for name in ("torch", "transformers")} | {"python": platform.python_version()},
        "options": {name: getattr(options, name) for name in tunable},
        "results": [],
    }
    with options.kept.open("w") if options.kept else nullcontext() as kept:
        write_kept = kept and (lambda line: kept.write(json.dumps(line, separators=(",", ":")) + "\n"))
        for mode in options.mode:
            for name in options.policy:
                # Only eager attention shows its weights; the other presses recompute what they need.
                implementation = "eager" if name == "observedAttention" else "sdpa"
                for keep in [1] if name == "full" else options.keep:
                    with attention(model, implementation):
                        records = list(run(model, text, items, options, name, keep, mode, write_kept))
                    for task in dict.fromkeys(item["task"] for item in items):
                        mine = [record for record in records if record["item"]["task"] == task]
                        results["results"].append(row(mine, name, keep, mode, task, slot_bytes))
                    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
