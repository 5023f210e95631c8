"""Makes the tokenizers of the stored Marian folder, and what transformers makes of texts with them.

    python tests/peers/make_marian.py

writes `source.spm`, `target.spm`, `vocab.json` and `tokens.json` to `tests/interop/folders/marian`,
whose model `make_folders.py` makes.

    python tests/peers/make_marian.py --check FOLDER

compares `tokens.json` with what transformers says today, and lets it translate with FOLDER, which
`kerasformer.interop.huggingface.save` wrote, and with the stored folder.
"""

import io
import itertools
import json
import pathlib
import sys

import numpy as np
import sentencepiece
import torch
from transformers import MarianMTModel, MarianTokenizer

FOLDER = pathlib.Path(__file__).parent.parent / "interop" / "folders" / "marian"
WORDS = (
    (("the", "die"), ("a", "eine"), ("every", "jede")),
    (("old", "alte"), ("grey", "graue"), ("small", "kleine"), ("tired", "müde")),
    (("cat", "Katze"), ("goose", "Gans"), ("teacher", "Lehrerin"), ("bee", "Biene")),
    (("sleeps", "schläft"), ("sings", "singt"), ("works", "arbeitet")),
)
PAIRS = [
    [" ".join(side) + "." for side in zip(*pairs, strict=True)]
    for pairs in itertools.product(*WORDS)
]
TEXTS = [
    "the old cat sleeps.",
    "die müde Biene schläft.",
    ">>deu<< a small goose",
    ">>xyz<<every bee",
    " two  spaces ",
    "",
    "größe ß 你好 x",
    "a << b >> c",
    ">>",
    ">>deu<<",
]
CODE = ">>deu<<"


def train(sentences, size):
    """Trains a model with the ids that Marian's have; its own normalization would take 240 kB."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=size,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return model.getvalue()


def make():
    """Writes the tokenizers, numbered as Marian's conversion does: the end first, padding last."""
    pieces = ["</s>", "<unk>"]
    for name, sentences, size in zip(
        ("source", "target"), zip(*PAIRS, strict=True), (31, 34), strict=True
    ):
        proto = train(sentences, size)
        (FOLDER / f"{name}.spm").write_bytes(proto)
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        pieces += [processor.id_to_piece(i) for i in range(3, size)]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, CODE, "<pad>"]))}
    write("vocab.json", ids)
    write("tokens.json", tokens())
    print(f"Wrote tokenizers of {len(ids)} pieces.", file=sys.stderr)


def write(name, content):
    text = json.dumps(content, ensure_ascii=False, indent=0)
    (FOLDER / name).write_text(text + "\n", encoding="utf-8")


def tokens():
    """Returns the ids of texts of both languages without the end, and the texts of the ids."""
    tokenizer = MarianTokenizer.from_pretrained(FOLDER)
    found = {"texts": TEXTS}
    found["source"] = [ids[:-1] for ids in tokenizer(TEXTS)["input_ids"]]
    found["target"] = [ids[:-1] for ids in tokenizer(text_target=TEXTS)["input_ids"]]
    for side in ("source", "target"):
        texts = tokenizer.batch_decode(found[side], skip_special_tokens=True)
        found[f"decoded_{side}"] = texts
    return found


def check(saved):
    """Ends the program where transformers says something else than what is stored, or of SAVED."""
    if tokens() != json.loads((FOLDER / "tokens.json").read_text(encoding="utf-8")):
        sys.exit("marian: the tokens are not as stored.")
    ids = MarianTokenizer.from_pretrained(FOLDER)(TEXTS, padding=True, return_tensors="pt")
    found = []
    for folder in (FOLDER, saved):
        model = MarianMTModel.from_pretrained(folder).eval()
        # As `save_marian.py` searches: what is cut off gets no free end token.
        model.generation_config.forced_eos_token_id = None
        answer = model.generate(
            **ids,
            num_beams=4,
            num_return_sequences=4,
            max_new_tokens=60,
            length_penalty=1.0,
            early_stopping="never",
            bad_words_ids=[[model.config.pad_token_id]],
            return_dict_in_generate=True,
            output_scores=True,
        )
        found.append((answer.sequences[:, 1:].numpy(), answer.sequences_scores.numpy()))
    np.testing.assert_array_equal(*(sequences for sequences, _ in found))
    np.testing.assert_array_equal(*(scores for _, scores in found))
    ours = np.load(pathlib.Path(saved) / "translations.npz")
    theirs, scores = found[0]
    np.testing.assert_array_equal(ours["token_ids"][:, : theirs.shape[1]], theirs)
    np.testing.assert_allclose(ours["scores"], scores, 1e-5, 1e-5)
    print(f"marian: {len(theirs)} translations of {len(TEXTS)} texts are equal.")


if __name__ == "__main__":
    torch.manual_seed(0)
    if sys.argv[1:]:
        check(sys.argv[2])
    else:
        make()
