"""Trains a tiny SentencePiece BPE vocabulary with byte fallback and writes it with the ids that SentencePiece gives.

    pip install sentencepiece==0.2.3
    python spm-tokens.py > spm-tokens.json
"""

import io
import json

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto

CORPUS = """
The lighthouse keeper counted the ships that passed at night, and wrote each name into a book with a blue cover.
Nobody in the village remembered who had built the bridge, but everybody crossed it at least twice a day.
A wooden boat, a coil of rope and two oars were all that the storm had left on the beach.
The baker opened the oven at four, and by five the smell of bread had reached the railway station.
In winter the lake froze over; in summer the children swam to the island and back before breakfast.
Banana bandana ananas: abababab anananan lololol the the the that that there then this those.
She measured 3 cups of flour, 12 eggs, 450 grams of sugar and 2025 reasons to bake a cake.
Café, naïve, façade, Zürich, Österreich, straße: not every word is plain ASCII.
for (let i = 0; i < n; i++) { total += values[i] * weights[i]; }
"""

TEXTS = [
    "", " ", "  ", "   ", "a", " a", "a ", "  a  b   c", "the", " the", "The lighthouse keeper", "bridge\nbridge\n\nbridge",
    "ananan", "anananananana", "banana bandana", "abababababa", "lolololo", "thethethe", "ththth", "aaaaaaaaaaaaaaaaaaaaaaaa",
    "0123456789", "2025", "a1b2c3", "½ ² ₃ ٣ Ⅷ", "Zürich Österreich straße", "e\u0301", "你好，世界", "مرحبا", "😀 👨‍👩‍👧‍👦", "\t\ttab",
    "a\u00a0b", "a\u3000b", "line\r\nline", "<s>", "</s>", "<unk>", "<0x0A>", "a<s>b", "x\u0000y", "\ufeff", "\U0010ffff",
    "for (let i = 0; i < n; i++) { total += values[i]; }", "everybody crossed it at least twice a day.", "ocean" * 40,
    "supercalifragilistic", "a\u0301\u0302b", "!!!???...", "'s 't 're", "winter  summer   island",
]


def ids(model, options):
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return [{"text": text, "ids": processor.encode(text, **options)} for text in TEXTS]


buffer = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS.strip().split("\n")), model_writer=buffer, model_type="bpe", vocab_size=480,
    byte_fallback=True, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
    allow_whitespace_only_pieces=True, character_coverage=1.0, num_threads=1, minloglevel=2,
)
model = proto.ModelProto()
model.ParseFromString(buffer.getvalue())
vocabulary = [{"piece": p.piece, "score": p.score, "type": p.type} for p in model.pieces]
prefixed = ids(model, {})
model.normalizer_spec.add_dummy_prefix = False
plain = ids(model, {})
# Scores that are all equal: only the order from left to right decides.
for piece in model.pieces:
    piece.score = 0.0
level = ids(model, {})

print('{"oracle": "sentencepiece %s",' % sentencepiece.__version__)
print('"vocabulary": [\n%s\n],' % ",\n".join(json.dumps(p, ensure_ascii=False) for p in vocabulary))
for name, cases in [("prefixed", prefixed), ("plain", plain), ("level", level)]:
    lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
    print('"%s": [\n%s\n]%s' % (name, lines, "}" if name == "level" else ","))
