"""The model and its texts: weights in float32 through transformers, token ids as headwise has them."""

from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

# Tokens that end a turn or a document whatever the file names as its end of sequence; the list is headwise's.
END_TEXTS = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endofturn|>",
    "<｜end▁of▁sentence｜>",
)

# What is cut out before GPT-2's own expression, by the name that a GGUF file has for it.
CUTS = {"gpt-2": [], "smollm": [r"\p{N}"], "starcoder": [r"\p{N}"], "command-r": [r"\p{N}"]}
CONTROL = 3


class GgufText:
    """A GGUF file's own vocabulary of kind `gpt2`.

    transformers 5.2 makes a CodeLlama tokenizer of such a file: it adds a BOS although the file says not to, and drops the cut at
    digits, which moves white space before them. Texts of control tokens stay text here, as in headwise.
    """

    def __init__(self, path):
        fields = GGUFReader(path).fields
        read = lambda name: (field := fields.get(f"tokenizer.ggml.{name}")) and field.contents()
        if read("model") != "gpt2" or read("pre") not in CUTS:
            raise SystemExit(f"a vocabulary of kind {read('model')}/{read('pre')} is not read here: give a folder with tokenizer.json")
        pieces = read("tokens")
        vocabulary = {piece: id for id, piece in enumerate(pieces)}
        self.tokenizer = Tokenizer(BPE(vocabulary, [tuple(merge.split(" ", 1)) for merge in read("merges")]))
        cuts = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in CUTS[read("pre")]]
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        self.tokenizer.decoder = decoders.ByteLevel()
        self.control = {id for id, kind in enumerate(read("token_type")) if kind == CONTROL}
        self.bos = [read("bos_token_id")] if read("add_bos_token") else []
        self.ends = {read("eos_token_id")} | {vocabulary[text] for text in END_TEXTS if text in vocabulary}

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def decode(self, ids):
        return self.tokenizer.decode([id for id in ids if id not in self.control])


class HubText:
    """The tokenizer of a Hugging Face folder."""

    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        vocabulary = self.tokenizer.get_vocab()
        first = self.tokenizer("").input_ids[:1]
        self.bos = first if first == [self.tokenizer.bos_token_id] else []
        self.ends = {self.tokenizer.eos_token_id} | {vocabulary[text] for text in END_TEXTS if text in vocabulary}

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def load(path):
    """(model, text) of a GGUF file or of a Hugging Face folder."""
    logging.disable_progress_bar()  # standard error is for our own
    path = Path(path)
    if path.is_dir():
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval(), HubText(path)
    text = GgufText(path)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return model.eval(), text
