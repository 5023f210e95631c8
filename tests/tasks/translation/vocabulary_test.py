"""The tokenizers of a run: more characters than pieces, two vocabularies, models from elsewhere."""

import io

import pytest
import sentencepiece
import tensorflow as tf

from kerasformer.tokenizers import SentencePieceTokenizer, train_sentencepiece
from pipelines.tasks import translation
from pipelines.tasks.translation.vocabulary import load_tokenizers, make_tokenizers
from tests import own_words

PAIRS = own_words.pairs("en", "zh")
# Each with a character of its own: far more than pieces.
MANY = [("a dog", "狗" + chr(0x4E00 + number)) for number in range(509)]


def make_config(**changes):
    config = translation.default_config()
    config.tokenizer.vocabulary_size = 349
    config.model.update(variant="tiny", num_layers=1, hidden_dim=8, num_heads=2)
    config.update_from_flattened_dict(changes)
    return config


def make(folder, pairs=PAIRS, **changes):
    config = make_config(**changes)
    translation.check(config)
    make_tokenizers(config, str(folder), pairs)
    return config, load_tokenizers(str(folder))


class CoverageTest:
    def test_characters_without_room_are_spelled_as_bytes_and_it_is_said(self, tmp_path, capsys):
        _, (tokenizer, _) = make(tmp_path, MANY, **{"tokenizer.vocabulary_size": 301})
        said = capsys.readouterr().out
        assert "vocabulary_size=301 has no room for every character, which would take 775" in said
        assert "the 40 most frequent get pieces" in said
        assert tokenizer.vocabulary_size == 301 and "狗" in "".join(tokenizer.vocabulary)
        assert tokenizer.decode(tokenizer.encode([MANY[-1][1]])) == [MANY[-1][1]]

    @pytest.mark.parametrize(
        "changes", [{"byte_fallback": False, "vocabulary_size": 45}, {"character_coverage": 1.0}]
    )
    def test_otherwise_the_smallest_size_is_named(self, tmp_path, changes):
        changes = {f"tokenizer.{key}": value for key, value in changes.items()}
        with pytest.raises(ValueError, match="vocabulary_size to be at least"):
            make(tmp_path, MANY, **{"tokenizer.vocabulary_size": 301, **changes})
        assert not list(tmp_path.iterdir())

    def test_a_coverage_may_be_given(self, tmp_path):
        pairs, changes = PAIRS * 50 + [("the ä", "ö")], {"tokenizer.character_coverage": 0.9995}
        _, (tokenizer, _) = make(tmp_path, pairs, **changes)
        assert "老" in "".join(tokenizer.vocabulary) and not {"ä", "ö"} & set(tokenizer.vocabulary)


@pytest.mark.integration
class SeparateTest:
    CHANGES = {"shared": False, "vocabulary_size": 317, "target_vocabulary_size": 283}
    CHANGES = {f"tokenizer.{key}": value for key, value in CHANGES.items()}

    def test_each_language_has_its_own_vocabulary_and_the_model_its_embeddings(self, tmp_path):
        config, tokenizers = make(tmp_path, **self.CHANGES)
        assert [tokenizer.vocabulary_size for tokenizer in tokenizers] == [317, 283]
        assert "老" not in "".join(tokenizers.source.vocabulary)
        model = translation.build(config, str(tmp_path))
        shapes = [
            tuple(e.embeddings.shape) for e in (model.source_embedding, model.target_embedding)
        ]
        assert shapes == [(317, 8), (283, 8)]
        module = translation.serving(model, config, str(tmp_path))
        aligned = module.align(tf.constant([PAIRS[3][0]]))
        pieces = [
            tokenizers.source.vocabulary[i] for i in tokenizers.source.encode([PAIRS[3][0]])[0]
        ]
        assert [p.decode() for p in aligned["source_tokens"][0].numpy()] == [*pieces, "</s>"]
        target = [p.decode() for p in aligned["target_tokens"][0].numpy()]
        assert set(target) <= {*tokenizers.target.vocabulary, ""}
        assert model.decoder and len(module.runtime_functions("onnx")["decoder_step"][1]) == 4

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"tokenizer.target_vocabulary_size": 307}, "target_vocabulary_size=307"),
            ({"tokenizer.path": "a.model,b.model"}, "1 SentencePiece model,"),
            ({"tokenizer.path": "a.model", "tokenizer.shared": False}, "2 SentencePiece models,"),
        ],
    )
    def test_what_contradicts_itself_is_refused_before_anything_is_read(self, changes, named):
        with pytest.raises(ValueError, match=named):
            translation.check(make_config(**changes))


class ForeignTest:
    SENTENCES = [text for pair in PAIRS for text in pair]

    def train(self, **options):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(self.SENTENCES),
            model_writer=model,
            vocab_size=97,
            minloglevel=2,
            **options,
        )
        return model.getvalue()

    @pytest.mark.parametrize(
        "options",
        [{}, {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, {"pad_id": 3}, {"unk_id": 96}],
        ids=["of sentencepiece", "of T5", "pad last", "unknown last"],
    )
    def test_a_model_of_other_ids_keeps_its_pieces_under_ours(self, tmp_path, options):
        theirs = sentencepiece.SentencePieceProcessor(model_proto=self.train(**options))
        (tmp_path / "their.model").write_bytes(theirs.serialized_model_proto())
        (tmp_path / "run").mkdir()
        changes = {"tokenizer.path": f"{tmp_path}/their.model"}
        _, (ours, _) = make(tmp_path / "run", **changes)
        assert ours.vocabulary[:4] == ("<pad>", "<s>", "</s>", "<unk>")
        assert set(ours.vocabulary) >= set(map(theirs.id_to_piece, range(theirs.vocab_size())))
        for text in (PAIRS[0][0], PAIRS[0][1], "Žluťoučký kůň", "<s> </s> <pad>"):
            pieces = [ours.vocabulary[i] for i in ours.encode([text])[0]]
            assert pieces == [theirs.id_to_piece(i) for i in theirs.encode(text)]
        graph = ours.tokenize(tf.constant(self.SENTENCES[:7]))
        assert graph.to_list() == ours.encode(self.SENTENCES[:7])

    @pytest.mark.parametrize("content", [None, b"", b"no model"])
    def test_a_file_that_is_no_model_is_named(self, tmp_path, content):
        if content is not None:
            (tmp_path / "their.model").write_bytes(content)
        with pytest.raises(ValueError, match=r"tokenizer.path='.*/their\.model'") as error:
            make(tmp_path, **{"tokenizer.path": f"{tmp_path}/their.model"})
        assert "\n" not in str(error.value)


class SymbolsTest:
    @pytest.mark.parametrize("symbols", [("<2de>", "@@"), ["<2de>", "@@"], "<2de>,@@"])
    def test_a_symbol_is_one_piece_wherever_it_stands(self, tmp_path, symbols):
        _, (tokenizer, _) = make(tmp_path, **{"tokenizer.user_defined_symbols": symbols})
        pieces = [tokenizer.vocabulary[i] for i in tokenizer.encode(["<2de>The@@teacher"])[0]]
        assert pieces.count("<2de>") == pieces.count("@@") == 1
        assert tokenizer.decode(tokenizer.encode(["The @@ teacher"])) == ["The @@ teacher"]

    @pytest.mark.parametrize("symbols", [("<s>",), ("a", "a"), ("",), (7,)])
    def test_symbols_that_cannot_be_are_refused(self, tmp_path, symbols):
        with pytest.raises(ValueError, match="user_defined_symbols="):
            make(tmp_path, **{"tokenizer.user_defined_symbols": symbols})

    def test_the_library_refuses_one_text_in_place_of_several(self):
        with pytest.raises(ValueError, match="user_defined_symbols='ab'"):
            train_sentencepiece(["a b"], 300, user_defined_symbols="ab")
        with pytest.raises(ValueError, match="serialized SentencePiece model"):
            SentencePieceTokenizer.from_foreign(b"no model")
