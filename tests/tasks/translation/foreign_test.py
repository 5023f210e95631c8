"""A run that begins with a Marian model of transformers: what it takes, and what it refuses."""

import shutil

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

import pipelines.configs
from kerasformer import interop
from pipelines.distribution.workers import Workers
from pipelines.runs.config_file import load_config
from pipelines.runs.folder import start
from pipelines.tasks import translation
from pipelines.tasks.translation.vocabulary import load_tokenizers
from pipelines.training import preparation, settings
from tests import ROOT

FOLDER = ROOT / "tests" / "interop" / "folders" / "marian"
PAIRS = [("the old cat sleeps.", "die alte Katze schläft."), ("a bee sings.", "eine Biene singt.")]


def choose(folder, *overrides, config="my_translation", source=FOLDER):
    """Resolves the config of a user, as a training does."""
    for split in ("train", "validation", "test"):
        text = "\n".join(map("\t".join, PAIRS))
        (folder / f"{split}.tsv").write_text(text, encoding="utf-8")
    overrides = [f"start.weights={source}", "train.steps=2", *overrides]
    if config == "my_translation":
        overrides.append(f"data.folder={folder}")
    configs = pipelines.configs.__path__[0]
    given = load_config(config, configs, overrides, settings.EITHER)
    workers = Workers(tf.distribute.get_strategy())
    config = preparation.choose(translation, given, str(folder / "run"), workers)
    preparation.check(translation, config, workers)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Config, folder, data and model of a new run whose source is gone since."""
    folder = tmp_path_factory.mktemp("marian")
    source, workdir = folder / "source", folder / "run"
    shutil.copytree(FOLDER, source)
    workdir.mkdir()
    config = choose(folder, "model.dropout=0.3", source=source)
    data = translation.datasets(config, str(workdir))
    model = translation.build(config, str(workdir))
    translation.begin(model, config, str(workdir), True)
    shutil.rmtree(source)
    return config, workdir, data, model


class StartTest:
    def test_a_new_run_has_the_weights_and_the_sizes_of_the_source(self, run):
        config, _, _, model = run
        first = interop.load(FOLDER).model
        for weight, expected in zip(model.weights, first.weights, strict=True):
            np.testing.assert_array_equal(weight, expected)
        assert model.special_ids == first.special_ids
        assert (config.model.hidden_dim, config.tokenizer.vocabulary_size) == (6, 45)
        assert (model.dropout, config.train.learning_rate) == (0.3, 2e-5)

    def test_batches_have_the_ids_of_its_vocabulary_and_the_end_counts_in_the_loss(self, run):
        config, workdir, data, model = run
        batch = next(iter(data.train(0)))
        source, target = load_tokenizers(str(workdir))
        texts = source.decode(batch["source"].numpy()), target.decode(batch["labels"].numpy())
        assert set(zip(*texts, strict=True)) - {("", "")} == set(PAIRS)
        assert (batch["target"].numpy()[:, 0] == 44).all()
        lengths = [len(ids) + 1 for ids in target.encode([pair[1] for pair in PAIRS])]
        _, count = translation.loss(model, batch, config)
        assert count == sum(lengths)

    @pytest.mark.integration
    def test_what_is_served_is_what_a_greedy_search_of_ids_says(self, run):
        config, workdir, _, model = run
        config = config.copy_and_resolve_references()
        config.decode.update(beam_size=1, num_hypotheses=1, length_penalty=None)
        module = translation.serving(model, config, str(workdir))
        found = module.align(tf.constant([PAIRS[0][0], "", PAIRS[1][0]]))
        source, target = load_tokenizers(str(workdir))
        assert found["translation"].numpy()[1] == b"" and not any(found["target_tokens"][1].numpy())
        for row, (text, _) in zip((0, 2), PAIRS, strict=True):
            pieces = [x.decode() for x in found["target_tokens"][row].numpy() if x]
            ids = [target.vocabulary.index(piece) for piece in pieces]
            assert found["translation"].numpy()[row].decode() == target.decode([ids])[0]
            read = [*source.encode([text])[0], 0]
            assert [x.decode() for x in found["source_tokens"][row].numpy() if x] == [
                source.vocabulary[i] for i in read
            ]
            logits = model({"source": np.array([read]), "target": np.array([[44, *ids[:-1]]])})[0]
            # Padding, the last id, is never generated.
            assert np.argmax(logits[:, :-1], axis=-1).tolist() == ids
        answer = module.score.python_function(*(tf.constant([text]) for text in PAIRS[0]))
        assert answer["tokens"].numpy() == len(target.encode(PAIRS[0][1:])[0]) + 1

    def test_it_resumes_without_the_source(self, run):
        config, workdir, _, _ = run
        folder = workdir.parent
        start(
            workdir,
            config,
            default=translation.default_config(),
            fixed_keys=(),
            free_keys=(),
            prepared=translation.PREPARED,
        )
        (workdir / "checkpoints" / "step-1").mkdir(parents=True)
        again = choose(folder, "model.dropout=0.3", source=folder / "source")
        assert again.to_dict() == ml_collections.ConfigDict(config.to_dict()).to_dict()
        translation.datasets(again, str(workdir))
        translation.begin(translation.build(again, str(workdir)), again, str(workdir), False)

    @pytest.mark.parametrize(
        "override, message",
        [
            ("model.norm_first=True", "model.norm_first=False, because start.weights=.*first=True"),
            ("model.hidden_dim=8", "model.hidden_dim=6, because .* received model.hidden_dim=8"),
            ("model.name=recurrent", "model.name='transformer', because"),
            ("model.tie_output=False", "no model.tie_output, because"),
            ("tokenizer.vocabulary_size=300", "tokenizer.vocabulary_size=45, because"),
            ("tokenizer.path=own.model", "no tokenizer.path with start.weights"),
            ("start.workdir=runs/other", "no start.workdir with start.weights|other holds no run"),
        ],
    )
    def test_what_contradicts_the_source_is_refused_by_name(self, tmp_path, override, message):
        with pytest.raises(ValueError, match=message):
            choose(tmp_path, override)

    def test_a_config_without_auto_takes_the_model_too(self, tmp_path):
        with pytest.raises(ValueError, match="model.norm_first=False, because .*norm_first=True"):
            choose(tmp_path, config="demo_translation")

    def test_another_source_is_refused_in_one_sentence(self, tmp_path):
        with pytest.raises(ValueError, match="to be a Marian model.* with model_type='vit'"):
            choose(tmp_path, source=FOLDER.parent / "vit")
        with pytest.raises(ValueError, match="Expected the folder of a model, received source="):
            choose(tmp_path, source=tmp_path / "absent")
