"""The tokenizers of Marian answer as those of transformers, in a SavedModel too."""

import json
import shutil

import keras
import pytest
import tensorflow as tf

from kerasformer.interop.marian_tokenizer import MarianTokenizer, load_marian_tokenizers
from kerasformer.tokenizers import train_sentencepiece
from tests import ROOT
from tests.tokenizers_test import TEXTS

FOLDER = ROOT / "tests" / "interop" / "folders" / "marian"
TOKENS = json.loads((FOLDER / "tokens.json").read_text(encoding="utf-8"))


class Both(tf.Module):
    """Both tokenizers in one SavedModel."""

    def __init__(self):
        super().__init__()
        self.source, self.target = load_marian_tokenizers(FOLDER)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def tokenize(self, text):
        pad_id = self.source.pad_id
        ids = {side: getattr(self, side).tokenize(text) for side in ("source", "target")}
        ids = {side: x.to_tensor(pad_id) for side, x in ids.items()}
        return {**ids, "text": self.target.detokenize(ids["source"])}


class MarianTokenizerTest:
    def test_ids_and_texts_are_those_of_transformers(self):
        for side, tokenizer in zip(
            ("source", "target"), load_marian_tokenizers(FOLDER), strict=True
        ):
            assert tokenizer.encode(TOKENS["texts"]) == TOKENS[side]
            assert tokenizer.decode(TOKENS[side]) == TOKENS[f"decoded_{side}"]
            ended = [[tokenizer.start_id, *ids, tokenizer.end_id] for ids in TOKENS[side]]
            assert tokenizer.decode(ended) == TOKENS[f"decoded_{side}"]

    def test_a_saved_model_answers_alike_after_the_seed_was_set(self, tmp_path):
        tf.saved_model.save(Both(), str(tmp_path))
        module = tf.saved_model.load(str(tmp_path))
        keras.utils.set_random_seed(3)
        found = module.tokenize(tf.constant(TOKENS["texts"]))
        for side in ("source", "target"):
            rows = found[side].numpy().tolist()
            expected = TOKENS[side]
            assert [row[: len(x)] for row, x in zip(rows, expected, strict=True)] == expected
        assert [x.decode() for x in found["text"].numpy()] == TOKENS["decoded_source"]

    def test_any_bytes_are_read_with_the_normalization_of_opus_mt(self):
        words = ["ein Hund", "der Hund", "ein Ball"]
        proto = train_sentencepiece(words, 15, byte_fallback=False)
        ids = {piece: i for i, piece in enumerate(["</s>", "<unk>", "▁", "Hund", "e", "<pad>"])}
        tokenizer = MarianTokenizer(proto, ids)
        assert len(tokenizer.encode(TEXTS)) == len(TEXTS)
        assert tokenizer.encode(["", " "]) == [[], []] and tokenizer.encode([]) == []
        assert tokenizer.pieces(tf.constant([[5, 2]])).numpy().tolist() == [
            [b"<pad>", "▁".encode()]
        ]

    @pytest.mark.parametrize(
        "name, content, message",
        [
            ("vocab.json", '{"</s>": 0, "<unk>": 1}', "a vocabulary with <pad>"),
            ("vocab.json", '{"</s>": 0, "<unk>": 1, "<pad>": 3}', "ids 0 to 2, .* without 2"),
            ("source.spm", "text", "Cannot read a tokenizer from .*source.spm.*SentencePiece"),
            ("target.spm", None, "Expected a file .*target.spm.*: No such file"),
        ],
    )
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path, name, content, message):
        for file in ("vocab.json", "source.spm", "target.spm"):
            shutil.copy(FOLDER / file, tmp_path)
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            load_marian_tokenizers(tmp_path)

    def test_one_text_alone_is_refused(self):
        with pytest.raises(ValueError, match="a sequence of texts, received texts='ein Hund'"):
            load_marian_tokenizers(FOLDER)[0].encode("ein Hund")
