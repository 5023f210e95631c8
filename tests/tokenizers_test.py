"""Tests of the SentencePiece tokenizer: the same ids in Python, in a graph and in a SavedModel."""

import gzip
import itertools
import json
import subprocess
import sys

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf

from kerasformer.tokenizers import (
    END_ID,
    PAD_ID,
    START_ID,
    UNKNOWN_ID,
    SentencePieceTokenizer,
    read_lines,
    train_sentencepiece,
    train_sentencepiece_files,
)

WORDS = (
    "Der Ein Kein Dieser Jeder Mein".split(),
    "große kleine schöne fröhliche müde hungrige grüne".split(),
    "Hund Vogel Straßenmusiker Bäcker Fußballer Gärtner Nachbar Schüler".split(),
    "schläft singt läuft arbeitet wartet spielt träumt".split(),
    ("heute", "im Garten", "über die Brücke", "morgen früh", "am Bahnhof"),
)
SENTENCES = [" ".join(words) + "." for words in itertools.product(*WORDS)][::11]
SIZE = 311
HARD = (
    "| |Der Hund schläft.|  two  spaces  |👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽|𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒜𝓫𝕔 ℝ"
    "|日本語のテキスト、です。|مرحبا بالعالم|שלום עוֹלָם"
    "|zero\u200bwidth\u200djoin\ufeff|ﬁne ﬂow ſt|e\u0301 u\u0308 Z\u0337\u031b\u0303a|a\0b"
    "|\x01\x02\x1b[0m\x7f\x85|tab\tnew\nline\r\n|İstanbul STRASSE ß ŒUVRE Ⅷ|\u2028\u2029"
    "|▁under▁score ▅|<s> </s> <pad> <unk> <0x41>|\U0010ffff\ufffe\ufffd|ｆｕｌｌ　ｗｉｄｔｈ"
    "|한국어 \u1100\u1161|½ ① ㎏|\u202eright to left\u202c"
).split("|") + ["x" * 20011, "Hund " * 5003]
BROKEN = [b"\xff\xfe", b"ab\xc3", b"caf\xe9 noir", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc0\x80x"]
TEXTS = [text.encode() for text in HARD] + BROKEN


@pytest.fixture(
    scope="module",
    params=itertools.product(("unigram", "bpe"), (False, True), (False, True)),
    ids=lambda p: f"{p[0]}{'-lowercase' * p[1]}{'-bytes' * p[2]}",
)
def tokenizer(request):
    kind, lowercase, byte_fallback = request.param
    size = SIZE if byte_fallback else SIZE - 256
    return SentencePieceTokenizer(
        train_sentencepiece(SENTENCES, size, kind, lowercase, byte_fallback=byte_fallback)
    )


@pytest.fixture(scope="module")
def plain():
    return SentencePieceTokenizer(train_sentencepiece(SENTENCES, SIZE))


class PythonAndGraphTest:
    def test_hard_text_has_the_same_ids(self, tokenizer):
        graph = tf.function(tokenizer.tokenize)(tf.constant(TEXTS))
        assert graph.dtype == tf.int32
        assert graph.to_list() == tokenizer.encode(TEXTS)
        assert not {PAD_ID, START_ID, END_ID} & set(itertools.chain(*graph.to_list()))
        assert tokenizer.encode(HARD) == tokenizer.encode(TEXTS[: len(HARD)])

    def test_ids_give_the_same_text_back(self, tokenizer):
        ids = tokenizer.encode(TEXTS)
        graph = tf.function(tokenizer.detokenize)(tf.ragged.constant(ids, tf.int32).to_tensor())
        assert [text.decode() for text in graph.numpy()] == tokenizer.decode(ids)

    def test_a_row_does_not_depend_on_its_batch(self, tokenizer):
        alone = [tokenizer.tokenize(tf.constant([text])).to_list()[0] for text in TEXTS]
        assert alone == tokenizer.tokenize(tf.constant(TEXTS)).to_list()

    def test_empty_batches_stay_empty(self, plain):
        assert plain.tokenize(tf.constant([], tf.string)).to_list() == plain.encode([]) == []
        assert plain.detokenize(tf.zeros((0, 3), tf.int32)).shape == (0,)
        assert plain.detokenize(tf.zeros((2, 0), tf.int32)).numpy().tolist() == [b"", b""]
        assert plain.decode([]) == []


class Exported(tf.Module):
    """Signatures around several tokenizers, with padded ids between them."""

    def __init__(self, tokenizers):
        super().__init__()
        self.tokenizers = tokenizers

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def encode(self, texts):
        return {name: t.tokenize(texts).to_tensor() for name, t in self.tokenizers.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def repeat(self, texts):
        ids = self.encode(texts)
        return {name: t.detokenize(ids[name]) for name, t in self.tokenizers.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def spell(self, texts):
        ids = self.encode(texts)
        return {name: t.pieces(ids[name]) for name, t in self.tokenizers.items()}


@pytest.mark.integration
class SavedModelTest:
    def test_a_process_without_kerasformer_gives_the_same_ids_texts_and_pieces(self, tmp_path):
        options = {"a": ("unigram", False), "b": ("bpe", False), "c": ("bpe", True)}
        protos = {name: train_sentencepiece(SENTENCES, SIZE, *options[name]) for name in options}
        module = Exported({name: SentencePieceTokenizer(protos[name]) for name in options})
        signatures = {"encode": module.encode, "repeat": module.repeat, "spell": module.spell}
        tf.saved_model.save(module, str(tmp_path / "export"), signatures)
        (tmp_path / "texts.json").write_text(json.dumps([list(text) for text in TEXTS]))
        program = (
            "import json, sys, tensorflow as tf, tensorflow_text\n"
            "texts = tf.constant([bytes(text) for text in json.load(open('texts.json'))])\n"
            "signatures = tf.saved_model.load('export').signatures\n"
            "tf.random.set_seed(7)\n"
            "ids, back, pieces = (signatures[k](texts=texts) for k in sys.argv[1:])\n"
            "for name in ids:\n"
            "    rows = [[i for i in row if i] for row in ids[name].numpy().tolist()]\n"
            "    spelled = [[p.decode() for p in row] for row in pieces[name].numpy()]\n"
            "    again = [text.decode() for text in back[name].numpy()]\n"
            "    print(json.dumps([name, rows, again, spelled]))\n"
            "assert 'kerasformer' not in sys.modules and 'sentencepiece' not in sys.modules\n"
        )
        command = [sys.executable, "-c", program, *signatures]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        results = {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}
        assert results.keys() == options.keys()
        for name, (rows, texts, spelled) in results.items():
            tokenizer = module.tokenizers[name]
            assert rows == tokenizer.encode(TEXTS)
            assert texts == tokenizer.decode(rows)
            for row, pieces in zip(rows, spelled, strict=True):
                padding = ["<pad>"] * (len(pieces) - len(row))
                assert pieces == [tokenizer.vocabulary[i] for i in row] + padding

    def test_cleared_caches_do_no_harm(self, plain):
        function = tf.function(plain.tokenize)
        before = function(tf.constant(HARD)).to_list()
        tf.random.set_seed(7)
        keras.backend.clear_session()
        assert function(tf.constant(HARD)).to_list() == before
        assert plain.tokenize(tf.constant(HARD)).to_list() == before

    def test_a_dataset_can_tokenize_in_many_threads(self, plain):
        dataset = tf.data.Dataset.from_tensor_slices(SENTENCES).batch(7)
        dataset = dataset.map(plain.tokenize, num_parallel_calls=3)
        rows = [row for batch in dataset for row in batch.to_list()]
        assert rows == plain.encode(SENTENCES)


class TextsTest:
    def test_text_of_the_corpus_comes_back_unchanged(self, plain):
        assert plain.decode(plain.encode(SENTENCES)) == SENTENCES
        assert UNKNOWN_ID not in itertools.chain(*plain.encode(SENTENCES))

    def test_bytes_spell_what_the_vocabulary_lacks(self, plain):
        texts = ["日本語", "👍🏽", "مرحبا", "Žluťoučký kůň"]
        assert plain.decode(plain.encode(texts)) == texts

    def test_without_bytes_it_is_unknown(self):
        tokenizer = SentencePieceTokenizer(train_sentencepiece(SENTENCES, 71, byte_fallback=False))
        assert UNKNOWN_ID in tokenizer.encode(["日本語"])[0]

    def test_lowercase_folds_case_and_case_is_kept_without_it(self, plain):
        folded = SentencePieceTokenizer(train_sentencepiece(SENTENCES, SIZE, lowercase=True))
        same, other = folded.encode(["KEIN GROSSER HUND", "kein grosser hund"])
        assert same == other
        assert folded.decode([same]) == ["kein grosser hund"]
        assert plain.decode(plain.encode(["KEIN Hund"])) == ["KEIN Hund"]

    def test_normalization_decides_what_a_ligature_is(self):
        texts = {}
        for normalization in ("nmt_nfkc", "nfkc", "identity"):
            proto = train_sentencepiece(SENTENCES, SIZE, normalization=normalization)
            tokenizer = SentencePieceTokenizer(proto)
            texts[normalization] = tokenizer.decode(tokenizer.encode(["ﬁ\u200bn\x01e"]))[0]
        assert texts == {"nmt_nfkc": "fi ne", "nfkc": "fi\u200bn\x01e", "identity": "ﬁ\u200bn\x01e"}

    def test_special_tokens_give_no_text_wherever_they_stand(self, plain):
        (ids,) = plain.encode(["Der Hund singt."])
        rows = [[START_ID, *ids, END_ID], [PAD_ID, *ids, PAD_ID], [*ids[:2], END_ID, *ids[2:]]]
        assert plain.decode(rows) == ["Der Hund singt."] * 3
        graph = plain.detokenize(tf.ragged.constant(rows, tf.int32).to_tensor())
        assert graph.numpy().tolist() == [b"Der Hund singt."] * 3
        assert plain.decode(np.zeros((2, 3), np.int32)) == ["", ""]

    def test_pieces_keep_the_shape_of_the_ids_and_join_to_the_text(self, plain):
        ids = plain.tokenize(tf.constant(["Ein Vogel läuft im Garten."])).to_tensor()
        text = "".join(piece.decode() for piece in plain.pieces(ids).numpy()[0])
        assert text.replace("▁", " ").strip() == "Ein Vogel läuft im Garten."
        special = plain.pieces(tf.constant([[[PAD_ID, START_ID], [END_ID, UNKNOWN_ID]]]))
        assert special.numpy().tolist() == [[[b"<pad>", b"<s>"], [b"</s>", b"<unk>"]]]


class TrainingTest:
    @pytest.mark.parametrize("kind", ["unigram", "bpe"])
    def test_the_same_sentences_give_the_same_model(self, kind):
        first = train_sentencepiece(SENTENCES, SIZE, kind)
        assert train_sentencepiece(iter(SENTENCES), SIZE, kind) == first
        assert train_sentencepiece(SENTENCES[::2], SIZE, kind) != first

    @pytest.mark.parametrize("kind", ["unigram", "bpe"])
    def test_the_error_names_the_largest_vocabulary_and_that_one_can_be_trained(self, kind):
        with pytest.raises(ValueError, match="received vocabulary_size=7919") as error:
            train_sentencepiece(SENTENCES, 7919, kind)
        largest = int(str(error.value).split("at most ")[1].split(",")[0])
        tokenizer = SentencePieceTokenizer(train_sentencepiece(SENTENCES, largest, kind))
        assert tokenizer.vocabulary_size == largest
        with pytest.raises(ValueError, match=f"at most {largest},"):
            train_sentencepiece(SENTENCES, largest + 1, kind)

    def test_the_error_names_the_smallest_vocabulary_and_that_one_can_be_trained(self):
        with pytest.raises(ValueError, match="received vocabulary_size=11") as error:
            train_sentencepiece(SENTENCES, 11)
        smallest = int(str(error.value).split("at least ")[1].split(",")[0])
        SentencePieceTokenizer(train_sentencepiece(SENTENCES, smallest))

    @pytest.mark.parametrize("sentences", [[], [""], ["", " \n"]])
    def test_a_corpus_without_text_is_refused(self, sentences):
        with pytest.raises(ValueError, match="received no text"):
            train_sentencepiece(sentences, SIZE)

    @pytest.mark.parametrize(
        "options, words",
        [
            ({"kind": "word"}, "kind='word'"),
            ({"normalization": "nfc"}, "normalization='nfc'"),
            ({"normalization": "identity", "lowercase": True}, "lowercase=True"),
            ({"character_coverage": 0.0}, "character_coverage=0.0"),
            ({"character_coverage": 0.97}, "character_coverage=0.97"),
            ({"vocabulary_size": 3}, "vocabulary_size=3"),
        ],
    )
    def test_a_wrong_option_is_named(self, options, words):
        with pytest.raises(ValueError, match=words):
            train_sentencepiece(SENTENCES, **{"vocabulary_size": SIZE, **options})

    def test_an_exception_of_the_iterable_comes_through(self):
        def broken():
            yield from SENTENCES
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            train_sentencepiece(broken(), SIZE)
        with pytest.raises(ValueError, match="type str"):
            train_sentencepiece([*SENTENCES, 7], SIZE)

    def test_the_trainer_keeps_quiet(self, capfd):
        train_sentencepiece(SENTENCES, SIZE)
        assert capfd.readouterr() == ("", "")

    def test_files_teach_what_their_lines_teach(self, tmp_path):
        plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.gz"
        plain.write_text("\n".join(SENTENCES[:101]) + "\n", encoding="utf-8-sig", newline="\r\n")
        packed.write_bytes(gzip.compress("\n".join(SENTENCES[101:]).encode()))
        trained = train_sentencepiece_files([plain, packed], SIZE, kind="bpe")
        assert trained == train_sentencepiece(SENTENCES, SIZE, kind="bpe")
        with pytest.raises(ValueError, match="list of paths"):
            train_sentencepiece_files(plain, SIZE)


class FilesTest:
    def test_only_newlines_end_a_line_and_what_cannot_be_read_is_named(self, tmp_path):
        (tmp_path / "text").write_bytes("\ufeffa\u2028b\x85c\x0cd\re\r\n\n".encode() + b"b\xe4d")
        lines = read_lines(tmp_path / "text")
        assert [next(lines), next(lines)] == ["a\u2028b\x85c\x0cd\re", ""]
        with pytest.raises(ValueError, match="text line 3"):
            next(lines)
        with pytest.raises(ValueError, match="missing'.*No such file"):
            list(read_lines(tmp_path / "missing"))
        (tmp_path / "text.gz").write_bytes(b"not gzip")
        (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a\n" * 1009)[:-11])
        for name in ("text.gz", "cut.gz"):
            with pytest.raises(ValueError, match=name):
                list(read_lines(tmp_path / name))

    def test_a_tokenizer_comes_back_from_its_file(self, plain, tmp_path):
        (tmp_path / "tokenizer.model").write_bytes(plain.proto)
        loaded = SentencePieceTokenizer.from_file(tmp_path / "tokenizer.model")
        assert (loaded.proto, loaded.vocabulary_size) == (plain.proto, SIZE)

    @pytest.mark.parametrize("content", [b"", b"no model at all"])
    def test_a_file_that_is_no_model_is_named(self, content, tmp_path):
        (tmp_path / "tokenizer.model").write_bytes(content)
        with pytest.raises(ValueError, match="tokenizer.model"):
            SentencePieceTokenizer.from_file(tmp_path / "tokenizer.model")
        with pytest.raises(ValueError, match="missing.model"):
            SentencePieceTokenizer.from_file(tmp_path / "missing.model")


class WrongInputTest:
    def test_one_string_is_not_a_batch(self, plain):
        with pytest.raises(ValueError, match="sequence of texts"):
            plain.encode("Der Hund")

    def test_a_lone_surrogate_is_refused(self, plain):
        with pytest.raises(ValueError, match="lone surrogates"):
            plain.encode(["good", "bad \ud800"])

    @pytest.mark.parametrize("wrong", [-1, SIZE])
    def test_an_id_outside_the_vocabulary_is_refused_and_ends_nothing(self, plain, wrong):
        with pytest.raises(ValueError, match=f"id={wrong}"):
            plain.decode([[5, wrong]])
        for graph in (plain.detokenize, plain.pieces):
            with pytest.raises(tf.errors.OpError):
                graph(tf.constant([[5, wrong]]))


class KerasNlpTest:
    def test_a_keras_nlp_tokenizer_keeps_its_pieces_under_our_ids(self):
        proto = keras_nlp.tokenizers.compute_sentence_piece_proto(
            tf.data.Dataset.from_tensor_slices(SENTENCES), vocabulary_size=71
        )
        with pytest.raises(ValueError, match="pad 0, start 2, end 3, unknown 1"):
            SentencePieceTokenizer(proto)
        theirs = keras_nlp.tokenizers.SentencePieceTokenizer(proto=proto)
        ours = SentencePieceTokenizer.from_keras_nlp(theirs)
        assert ours.vocabulary_size == theirs.vocabulary_size()
        assert ours.vocabulary[:4] == ("<pad>", "<s>", "</s>", "<unk>")
        pieces = [theirs.get_vocabulary()[i] for i in theirs("Ein Vogel singt heute.")]
        assert [ours.vocabulary[i] for i in ours.encode(["Ein Vogel singt heute."])[0]] == pieces
        assert ours.tokenize(tf.constant(HARD)).to_list() == ours.encode(HARD)

    def test_our_model_works_in_keras_nlp(self, plain):
        theirs = keras_nlp.tokenizers.SentencePieceTokenizer(proto=plain.proto)
        assert SentencePieceTokenizer.from_keras_nlp(theirs).vocabulary == plain.vocabulary
        assert tf.function(theirs)(tf.constant(HARD)).to_list() == plain.encode(HARD)

    def test_a_tokenizer_without_vocabulary_is_refused(self):
        with pytest.raises(ValueError, match="has a vocabulary"):
            SentencePieceTokenizer.from_keras_nlp(keras_nlp.tokenizers.SentencePieceTokenizer())


@pytest.mark.integration
class ImportTest:
    def test_the_library_does_not_import_it_and_a_missing_package_names_the_pip_line(self):
        program = (
            "import sys; sys.modules['tensorflow_text'] = None; import kerasformer\n"
            "assert 'kerasformer.tokenizers' not in sys.modules; import kerasformer.tokenizers\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert 'pip install "kerasformer[pipelines]"' in done.stderr.strip().splitlines()[-1]
