"""The translation task end to end on a language of five words, and input that nobody expects."""

import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf

from kerasformer import decoding
from pipelines.data.shards import Shard
from pipelines.runs.weights import load_model
from pipelines.tasks import translation
from pipelines.tasks.translation import evaluation
from pipelines.tasks.translation.translator import Translator
from pipelines.tasks.translation.vocabulary import load_tokenizers
from pipelines.text.pairs import read_pairs
from pipelines.training import loop

WORDS = {"eins": "one", "zwei": "two", "drei": "three", "fünf": "five", "acht": "eight"}
PAIRS = [
    (" ".join(words), " ".join(WORDS[word] for word in words))
    for length in (1, 2, 3, 4)
    for words in itertools.product(WORDS, repeat=length)
]
SPLITS = {"train": PAIRS[::2] + PAIRS[1::4], "validation": PAIRS[3::24], "test": PAIRS[7::24]}
STRANGE = [
    "",
    "  \t ",
    "eins 👩‍👩‍👧 zwei",
    "שלום עולם",
    "مرحبا \u202e drei",
    "e\u0301ins\u0000vier",
    "\u2028\u200b\ufeff",
    "<s> </s> <pad> ▁",
]


def make_config(folder, **changes):
    config = translation.default_config()
    config.data.update(format="tsv", folder=str(folder), columns=(0, 1))
    config.data.update({split: f"{split}.tsv" for split in SPLITS})
    config.tokenizer.update(vocabulary_size=23, byte_fallback=False)
    config.model.update(variant="tiny", num_layers=1, hidden_dim=32, dropout=0.0)
    config.model.update(intermediate_dim=47)
    config.train.update(steps=250, batch_tokens=1009, learning_rate=0.01, warmup_steps=50)
    config.train.update(validate_every=250, checkpoint_every=250)
    config.weights = "last"
    config.decode.update(max_source_length=23, batch_size=7)
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The folder of a run with a trained model, and of its data."""
    folder = tmp_path_factory.mktemp("run")
    for split, pairs in SPLITS.items():
        (folder / f"{split}.tsv").write_text("\n".join(map("\t".join, pairs)))
    loop.train(translation, make_config(folder), str(folder))
    return folder


@pytest.fixture(scope="module")
def config(workdir):
    return make_config(workdir)


@pytest.fixture(scope="module")
def module(workdir, config):
    model = load_model(translation.build, config, str(workdir), "last")
    return translation.serving(model, config, str(workdir))


def call(function, *sentences):
    """Calls a signature on sentences; returns numpy arrays."""
    return {name: value.numpy() for name, value in function(tf.constant(sentences)).items()}


class CheckTest:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("num_hypotheses", 7),
            ("beam_size", 0),
            ("length_penalty", "short"),
            ("max_ratio", -1.0),
            ("top_k", 3),
            ("temperature", -0.5),
        ],
    )
    def test_a_search_that_cannot_be_is_refused_before_anything_is_written(
        self, tmp_path, key, value
    ):
        config = make_config(tmp_path, **{f"decode.{key}": value})
        with pytest.raises(ValueError, match=f"{key}={value!r}") as caught:
            loop.train(translation, config, str(tmp_path / "run"))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("model.name", "linear"),
            ("model.name", "recurrent"),  # Its variant is another's.
            ("model.variant", "huge"),
            ("tokenizer.kind", "word"),
            ("train.batch_tokens", 101),
        ],
    )
    def test_what_cannot_be_built_or_batched_is_refused_as_early(self, tmp_path, key, value):
        config = make_config(tmp_path, **{key: value})
        with pytest.raises(ValueError, match=f"{key}.*{value}"):
            translation.check(config)

    @pytest.mark.parametrize("part", ["tokenizer", "train", "decode", None])
    def test_a_key_that_nothing_reads_is_refused(self, part):
        config = translation.default_config()
        with pytest.raises((AttributeError, KeyError), match="wieghts"):
            (config[part] if part else config).wieghts = "last"

    def test_a_run_does_not_go_on_with_other_pairs(self, workdir, tmp_path):
        shutil.copytree(workdir, tmp_path / "run")
        config = make_config(tmp_path / "run")
        loop.train(translation, config, str(tmp_path / "run"))
        (tmp_path / "run" / "train.tsv").write_text("eins zwei\tone two\n" * 3)
        with pytest.raises(ValueError, match="another set of training pairs"):
            loop.train(translation, config, str(tmp_path / "run"))


class TokenizerTest:
    def test_the_tokenizer_of_a_run_is_trained_once(self, workdir, config):
        before = (workdir / "tokenizer.model").read_bytes()
        other = make_config(workdir, **{"tokenizer.kind": "bpe"})
        translation.datasets(other, str(workdir))
        assert (workdir / "tokenizer.model").read_bytes() == before
        assert load_tokenizers(str(workdir)).source.vocabulary_size == 23

    def test_a_vocabulary_larger_than_the_corpus_allows_leaves_no_file(self, workdir, tmp_path):
        config = make_config(workdir, **{"tokenizer.vocabulary_size": 5003})
        with pytest.raises(ValueError, match="vocabulary_size=5003"):
            translation.datasets(config, str(tmp_path))
        assert not list(tmp_path.iterdir())

    def test_a_run_without_a_tokenizer_is_one_sentence(self, config, tmp_path):
        with pytest.raises(ValueError, match="Cannot read a tokenizer from path=.*tokenizer.model"):
            translation.build(config, str(tmp_path))


class DatasetsTest:
    def texts(self, workdir, ids):
        return load_tokenizers(str(workdir)).source.decode(ids.numpy())

    def read(self, workdir, dataset):
        """Reads pairs back from batches, padding rows left out, and checks the shift by one."""
        for batch in dataset:
            target, labels = batch["target"].numpy(), batch["labels"].numpy()
            real = labels[:, 1:] != 0
            assert np.array_equal(target[:, 1:][real], labels[:, :-1][real])
            sides = (self.texts(workdir, batch[name]) for name in ("source", "labels"))
            yield from (pair for pair in zip(*sides, strict=True) if any(pair))

    def test_an_epoch_is_the_training_pairs_in_an_order_of_the_seed(self, workdir, config):
        data = translation.datasets(config, str(workdir))
        epochs = []
        for epoch in (0, 1):
            stream = data.train(epoch * data.batches_per_epoch).take(data.batches_per_epoch)
            epochs.append(list(self.read(workdir, stream)))
            assert sorted(epochs[-1]) == sorted(SPLITS["train"])
        assert epochs[0] != epochs[1]
        again = translation.datasets(config, str(workdir)).train(0)
        assert list(self.read(workdir, again.take(data.batches_per_epoch))) == epochs[0]

    def test_a_stream_goes_on_in_the_middle_of_an_epoch(self, workdir, config):
        data = translation.datasets(config, str(workdir))
        expected, found = (next(iter(x)) for x in (data.train(0).skip(2), data.train(2)))
        assert all(np.array_equal(found[name], expected[name]) for name in expected)

    def test_the_validation_is_every_pair_once_however_long(self, workdir):
        config = make_config(workdir, **{"train.max_length": 7, "train.batch_tokens": 56})
        data = translation.datasets(config, str(workdir))
        assert sorted(self.read(workdir, data.validation)) == sorted(SPLITS["validation"])

    def test_pairs_that_are_too_long_are_dropped_and_counted(self, workdir, capsys):
        config = make_config(workdir, **{"train.max_length": 7})
        data = translation.datasets(config, str(workdir))
        kept = set(self.read(workdir, data.train(0).take(data.batches_per_epoch)))
        dropped = len(SPLITS["train"]) - len(kept)
        assert 0 < dropped and f"max_length=7: {dropped} dropped" in capsys.readouterr().out

    def test_corpora_are_mixed_by_their_weights(self, workdir):
        config = make_config(workdir, **{"data.train": ("test.tsv", "validation.tsv")})
        config.data.corpus_weights = (1, 3)
        data = translation.datasets(config, str(workdir))
        read = sorted(self.read(workdir, data.train(0).take(data.batches_per_epoch)))
        assert read == sorted(SPLITS["test"] + 3 * SPLITS["validation"])

    def test_pairs_that_are_in_train_too_are_counted_when_a_run_starts(
        self, workdir, tmp_path, capsys
    ):
        config = make_config(workdir, **{"data.validation": "train.tsv", "data.test": "absent"})
        for _ in range(2):
            translation.datasets(config, str(tmp_path))
        said = capsys.readouterr().out
        count = len(SPLITS["train"])
        assert said.count(f"{count} of {count} validation pairs are in train too, and the ") == 1
        assert said.count("The test pairs cannot be read yet: Cannot read path=") == 1

    def test_replicas_divide_the_rows(self, workdir, config):
        data = translation.datasets(config, str(workdir), Shard(num_replicas=3))
        for batch in data.train(0).take(data.batches_per_epoch):
            assert len(batch["source"]) % 3 == 0

    def test_processes_read_every_pair_once_between_them(self, workdir, config):
        shards = [Shard(index, 3, 3) for index in range(3)]
        parts = [translation.datasets(config, str(workdir), shard) for shard in shards]
        batches = [part.train(0).take(part.batches_per_epoch) for part in parts]
        read = [pair for part in batches for pair in self.read(workdir, part)]
        assert sorted(read) == sorted(SPLITS["train"])


class BuildTest:
    @pytest.mark.parametrize(
        ("key", "value", "named"),
        [
            ("colour", "blue", "colour"),
            ("variant", "huge", "variant='huge'"),
            ("num_heads", 3, "num_heads=3"),
        ],
    )
    def test_a_model_that_cannot_be_is_one_sentence(self, workdir, key, value, named):
        config = make_config(workdir)
        config.model[key] = value
        with pytest.raises(ValueError, match=named) as caught:
            translation.build(config, str(workdir))
        assert "\n" not in str(caught.value)

    def test_arguments_replace_those_of_the_variant(self, workdir, config):
        model = translation.build(config, str(workdir))
        assert (model.vocabulary_size, model.hidden_dim, model.num_layers) == (23, 32, 1)
        assert model.name == "transformer"

    def test_a_recurrent_model_goes_through_the_same_door(self, workdir):
        config = make_config(workdir)
        config.model.update(name="recurrent", variant="multi30k", embedding_dim=11)
        (sentence,) = translation.settle(config)
        assert sentence.startswith("Left out of model.name=recurrent")
        translation.check(translation.resolve(config))
        model = translation.build(config, str(workdir))
        assert (model.hidden_dim, model.embedding_dim, model.name) == (32, 11, "recurrent")


class LearningTest:
    def test_it_translates_sentences_that_it_has_not_seen(self, module, config):
        assert not set(SPLITS["test"]) & set(SPLITS["train"])
        scores, table, _, predictions = translation.evaluate(module, config, "test")
        assert scores["bleu"] > 70 and scores["sentences"] == len(SPLITS["test"])
        assert "Worst sentences" in table and SPLITS["test"][0][0] in table
        assert [(row["source"], row["reference"]) for row in predictions] == SPLITS["test"]
        right = [row["chrf"] == 100 for row in predictions]
        assert right == [row["reference"] == row["prediction"] for row in predictions]

    def test_the_score_for_the_best_checkpoint_is_the_bleu_of_a_greedy_search(
        self, workdir, module, config
    ):
        found = translation.validation_scorer(module.model, config, str(workdir))()
        assert found.keys() == {"bleu"} and 70 < found["bleu"] <= 100
        assert config.decode.beam_size == 4

    def test_the_example_is_one_of_the_validation_set(self, module, config):
        source, reference = read_pairs(config.data, "validation")[0]
        example = translation.example(module, config)
        assert f"input: {source}\n" in example and f"reference: {reference}\n" in example


class TranslateTest:
    def alone(self, module, sentence):
        return call(module.translate, sentence)["translation"][0]

    def test_the_order_is_that_of_the_sentences(self, module, config):
        # More than a batch, and the longest neither first nor last.
        sources = [source for source, _ in SPLITS["test"]][-11:]
        sources = sources[::2] + ["eins", ""] + sources[1::2]
        alone = [self.alone(module, source).decode() for source in sources]
        assert len(set(alone)) > 7
        assert evaluation.translate(module, sources, config) == alone

    def test_a_batch_is_translated_as_its_sentences_one_by_one(self, module):
        sentences = [source for source, _ in SPLITS["test"]][:5] + STRANGE
        together = call(module.translate, *sentences)
        for row, sentence in enumerate(sentences):
            alone = call(module.translate, sentence)
            assert together["translation"][row] == alone["translation"][0]
            assert together["score"][row] == pytest.approx(alone["score"][0], rel=1e-4, abs=1e-5)
            assert together["truncated"][row] == alone["truncated"][0]

    def test_no_sentences_have_no_translations(self, module, config):
        assert evaluation.translate(module, [], config) == []

    def test_nothing_is_translated_to_nothing(self, module):
        nothing = ("", "   ", " \t\n ")
        assert call(module.translate, *nothing)["translation"].tolist() == [b""] * 3
        among = call(module.translate, *nothing, "eins zwei")["translation"].tolist()
        assert among == [b""] * 3 + [self.alone(module, "eins zwei")]
        assert set(call(module.translate_nbest, *nothing)["translations"].flat) == {b""}

    def test_strange_text_has_a_translation_in_utf8(self, module):
        found = call(module.translate, *STRANGE)
        assert len([text.decode("utf-8") for text in found["translation"]]) == len(STRANGE)
        assert np.isfinite(found["score"]).all()

    def test_bytes_that_are_not_utf8_are_no_end_of_it(self, module):
        found = call(module.translate, b"eins \xff\xfe", b"eins zwei")["translation"]
        found[0].decode("utf-8")
        assert found[1] == self.alone(module, "eins zwei")

    def test_ten_thousand_words_are_cut_and_say_so(self, module, config):
        long = " ".join(["eins zwei drei fünf"] * 2503)
        found = call(module.translate, long, "eins zwei")
        assert found["truncated"].tolist() == [True, False]
        assert found["translation"][1] == self.alone(module, "eins zwei")
        # As long as what is read: 22 tokens and the end token, then what the limit lets through.
        limit = int(config.decode.max_ratio * 23) + config.decode.max_extra
        aligned = call(module.align, long)
        assert 0 < len(aligned["target_tokens"][0]) <= limit
        assert aligned["source_tokens"].shape == (1, 23)

    def test_the_score_is_the_log_probability_over_the_length_penalty(self, module, config):
        found = call(module.align, "drei eins fünf")
        vocabulary = {piece: i for i, piece in enumerate(module.tokenizer.vocabulary)}
        source, target = (
            np.array([[vocabulary[piece.decode()] for piece in found[name][0]]])
            for name in ("source_tokens", "target_tokens")
        )
        shifted = np.concatenate([[[1]], target[:, :-1]], axis=1)
        logits = module.model({"source": source, "target": shifted}).numpy()[0]
        logits = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        log_prob = logits[np.arange(target.shape[1]), target[0]].sum()
        penalty = decoding.length_penalty(target.shape[1], config.decode.alpha, "wu")
        best = call(module.translate, "drei eins fünf")
        assert best["score"][0] == pytest.approx(log_prob / float(penalty), rel=1e-4)
        # What `score` says of a pair, beside one that is longer.
        pairs = ["drei eins fünf", "eins eins eins eins"], [best["translation"][0], "two " * 9]
        found = module.score(*map(tf.constant, pairs))
        assert found["log_probability"][0].numpy() == pytest.approx(log_prob, rel=1e-4)
        assert found["tokens"][0] == target.shape[1] < found["tokens"][1]


class DecodeTest:
    SENTENCES = ["eins zwei drei", "", "acht"]

    def search(self, module, config, **decode):
        """Calls `translate_nbest` with another search."""
        changed = config.copy_and_resolve_references()
        changed.decode.update(decode)
        translation.check(changed)
        other = Translator(module.model, module.tokenizer, changed.decode)
        return call(other.translate_nbest, *self.SENTENCES)["translations"]

    def test_a_translation_begins_with_the_prefix_and_keeps_the_rules(self, module, config):
        rules = {"prefix": "five five", "min_length": 9, "no_repeat_ngram": 3, "beam_size": 3}
        found = self.search(module, config, **rules)
        assert found.shape == (3, 3) and set(found[1]) == {b""}
        for text in [*found[0], *found[2]]:
            ids = module.tokenizer.encode([text])[0]
            triples = list(zip(ids, ids[1:], ids[2:], strict=False))
            assert text.startswith(b"five five")
            assert len(ids) >= 9 and len(set(triples)) == len(triples)

    def test_what_is_drawn_follows_the_temperature(self, module, config):
        cold = self.search(module, config, num_hypotheses=1, temperature=1e-4)
        best = call(module.translate, *self.SENTENCES)["translation"]
        assert cold[:, 0].tolist() == best.tolist()
        options = {"temperature": 5.0, "top_k": 7, "num_hypotheses": 13}
        drawn = self.search(module, config, **options)
        assert drawn.shape == (3, 13) and len(set(drawn[2])) > 7


class NbestTest:
    def test_the_first_is_the_translation_and_the_others_follow_by_score(self, module, config):
        sentences = [source for source, _ in SPLITS["test"]][:3]
        best, found = call(module.translate, *sentences), call(module.translate_nbest, *sentences)
        assert found["translations"].shape == (3, 4)
        assert found["translations"][:, 0].tolist() == best["translation"].tolist()
        np.testing.assert_allclose(found["scores"][:, 0], best["score"], rtol=1e-6)
        assert (np.diff(found["scores"], axis=1) <= 0).all()
        assert found["truncated"].tolist() == [False] * 3
        for row in found["translations"]:
            assert len(set(row)) > 1


class AlignTest:
    SENTENCES = ("eins zwei drei", "fünf")

    def test_rows_of_real_tokens_sum_to_one_over_real_source_tokens(self, module):
        found = call(module.align, *self.SENTENCES)
        source, target = found["source_tokens"] != b"", found["target_tokens"] != b""
        assert found["alignment"].shape == (*target.shape, source.shape[1])
        np.testing.assert_allclose(found["alignment"].sum(axis=-1), target, atol=1e-5)
        assert not found["alignment"][~target].any()
        assert not found["alignment"].transpose(0, 2, 1)[~source].any()
        assert not source.all() and not target.all()

    def test_the_tokens_are_those_of_the_sentence_and_of_its_translation(self, module):
        found = call(module.align, *self.SENTENCES)
        for row, sentence in enumerate(self.SENTENCES):
            for name, text in (
                ("source_tokens", sentence),
                ("target_tokens", found["translation"][row].decode()),
            ):
                *pieces, end = (piece.decode() for piece in found[name][row] if piece)
                assert end == "</s>"
                assert "".join(pieces).replace("▁", " ").strip() == text

    def test_a_sentence_is_aligned_alone_as_in_a_batch(self, module):
        together, alone = call(module.align, *self.SENTENCES), call(module.align, "fünf")
        _, length, width = alone["alignment"].shape
        part = together["alignment"][1, :length, :width]
        np.testing.assert_allclose(part, alone["alignment"][0], atol=1e-5)

    def test_nothing_is_aligned_without_an_end_of_the_program(self, module):
        found = call(module.align, "")
        assert found["translation"].tolist() == [b""]
        assert found["source_tokens"].tolist() == [[b"</s>"]]
