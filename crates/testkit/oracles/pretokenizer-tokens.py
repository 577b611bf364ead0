"""What llama.cpp's pre-tokenizers do, seen through token ids: one small vocabulary under every name of `tokenizer.ggml.pre`.

    pip install gguf==0.19.0 regex==2026.11.15 && npm install node-llama-cpp@3.22.1
    python pretokenizer-tokens.py > pretokenizer-tokens.json

The vocabulary is the 256 bytes and merges that join almost anything, so that every cut of a pre-tokenizer shows in the ids.

For four names llama.cpp only approximates the expressions of the models' tokenizer.json (no marks, ASCII case, ASCII space); there
the expressions themselves are the oracle, run by Python's regex module.
"""

import json
import pathlib
import subprocess
import tempfile
import unicodedata

import gguf
import regex

NAMES = ["default", "gpt-2", "smollm", "llama-bpe", "qwen2", "qwen35", "falcon", "deepseek-v3"]
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
START = r"[^\r\n\p{L}\p{N}]?"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
LETTERS = (
    r"A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373\u0376"
    r"\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F"
    r"\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77"
    r"\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D"
    r"\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4"
    r"\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139"
    r"\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D"
    r"\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A"
    r"\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2"
    r"\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943"
)
EXPRESSIONS = {
    "tekken": [rf"{START}{UPPER}*{LOWER}+|{START}{UPPER}+{LOWER}*|\p{{N}}|{REST}"],
    "gpt-4o": [rf"{START}{UPPER}*{LOWER}+{SUFFIX}|{START}{UPPER}+{LOWER}*{SUFFIX}|\p{{N}}{{1,3}}|{REST}"],
    "deepseek-llm": [
        r"[\r\n]", rf"\s?[{LETTERS}]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", CJK, r"\p{N}+",
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
}
WHOLE_WORDS = {"tekken"}
HERE = pathlib.Path(__file__).parent
TEXTS = [c["text"] for c in json.loads((HERE / "smollm2-tokens.json").read_text())["cases"] if not c["special"]]
# Long runs show nothing that short ones do not, and the last 400 are random: some of them will do.
TEXTS = [text for text in TEXTS[:-300] if text and len(text) <= 40 and "<|" not in text] + [
    "ABCdef GHIjkl mnoPQR", "HTTPServer's XMLHttpRequest", "I'LL we'Ll 'S", "1234567 12 1 12345", "a/b//c/\n/d", "(foo) [bar] {baz}",
    "!word ?word .word", "x = y+z-w*v/u", "\n\nA\n B\r\n\r\nC", "e\u0301a\u0300 n\u0303o", "漢字かなカナ한글abc", "ÀÉÎÕÜ àéîõü Àé", "Ǆǅǆ ʰʷ ªº",
    "«a» „b“ ‚c‘", "$5 €6 £7 +8 <9> ^a ~b |c `d`", "a\u3000b。c、d", "tab\tx\t\ty", "１２３ＡＢＣａｂｃ！？", "don't DON'T it'S",
]

# Characters that every Unicode table in use knows.
TEXTS = [text for text in TEXTS if all(unicodedata.category(char) not in ("Cn", "Cs") for char in text)]


def alphabet():
    """The character of every byte (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def vocabulary():
    """Bytes, then pairs, then pairs of pairs that occur in the texts, most frequent first."""
    chars = alphabet()
    words = [[chars[b] for b in text.encode()] for text in TEXTS]
    tokens, merges = list(chars.values()), []
    while len(tokens) < 1500:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        (left, right), count = max(counts.items(), key=lambda item: (item[1], item[0]))
        if count < 2:
            break
        merges.append(f"{left} {right}")
        if left + right not in tokens:
            tokens.append(left + right)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if word[i] == left and word[i + 1] == right:
                    word[i : i + 2] = [left + right]
                i += 1
    return tokens, merges


def write(path, name, tokens, merges):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


JS = """
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
const { getLlama } = await import(pathToFileURL(createRequire(process.cwd() + '/').resolve('node-llama-cpp')))
const llama = await getLlama({ gpu: false, build: 'never' })
const texts = JSON.parse((await import('node:fs')).readFileSync(process.argv[2], 'utf8'))
const ids = {}
for (const path of process.argv.slice(3)) {
  const model = await llama.loadModel({ modelPath: path, vocabOnly: true })
  ids[path] = texts.map((text) => [...model.tokenize(text, false)])
}
console.log(JSON.stringify(ids))
"""

tokens, merges = vocabulary()
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    script = pathlib.Path("pretokenizer-tokens.tmp.mjs")
    script.write_text(JS)
    paths = {name: str(folder / f"{name}.gguf") for name in NAMES}
    for name, path in paths.items():
        write(path, name, tokens, merges)
    output = subprocess.run(["node", script, folder / "texts.json", *paths.values()], check=True, stdout=subprocess.PIPE).stdout
    script.unlink()
ids = json.loads(output.decode().strip().split("\n")[-1])


def encode(text, name):
    """Ids by the expressions of `name` and plain byte-pair encoding."""
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    chars, known = alphabet(), {token: id for id, token in enumerate(tokens)}
    pieces = [text]
    for expression in EXPRESSIONS[name]:
        cut = []
        for piece in pieces:
            ends = sorted({0, len(piece)} | {end for match in regex.finditer(expression, piece) for end in match.span()})
            cut += [piece[a:b] for a, b in zip(ends, ends[1:])]
        pieces = cut
    out = []
    for piece in pieces:
        word = [chars[b] for b in piece.encode()]
        if name in WHOLE_WORDS and "".join(word) in known:
            word = ["".join(word)]
        while pairs := [(ranks[pair], i) for i, pair in enumerate(zip(word, word[1:])) if pair in ranks]:
            _, i = min(pairs)
            word[i : i + 2] = [word[i] + word[i + 1]]
        out += [known[token] for token in word]
    return out


def line(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


ids = {name: ids[path] for name, path in paths.items()} | {name: [encode(text, name) for text in TEXTS] for name in EXPRESSIONS}
print('{"oracle": "llama.cpp through node-llama-cpp 3.22.1; regex %s for %s",' % (regex.__version__, ", ".join(EXPRESSIONS)))
print(f'"tokens": {line(tokens)},\n"merges": {line(merges)},\n"texts": {line(TEXTS)},\n"ids": {{')
print(",\n".join(f'"{name}": {line(ids[name])}' for name in ids) + "\n}}")
