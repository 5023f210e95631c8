"""CTranslate2 gives tokens the probabilities that the model gives them, or no file is written."""

import sys

import ctranslate2
import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.interop.ctranslate2 import QUANTIZATIONS, export_ctranslate2
from kerasformer.models import Seq2SeqRNN, Seq2SeqTransformer

SIZE = 23
TOKENS = [f"token{number}" for number in range(29)]
SOURCES = [[7, 5, 11], [13, 3, 17, 19, 4], [3]]
TARGETS = [[5, 3], [17], [4, 11, 7, 21, 13, 6]]
GROUPS = {"num_key_value_heads": 2, "key_dim": 5, "use_gate": True, "normalization": "rms"}


def make_model(**options):
    keras.utils.set_random_seed(3)
    model = Seq2SeqTransformer(SIZE, 2, 12, 6, 17, **options)
    model.build()
    for variable in model.trainable_variables:  # Biases start at zero, factors at one.
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.3))
    return model


def write(model, folder, **options):
    size = model.target_vocabulary_size
    target = None if size is None else TOKENS[::-1][:size]
    options.setdefault("unknown", "token3")
    export_ctranslate2(model, folder, TOKENS[:SIZE], target, **options)
    return target or TOKENS


def log_probabilities(folder, target_tokens):
    """Asks CTranslate2 for those of the tokens of each target, end token included."""
    spelled = [[TOKENS[i] for i in source] for source in SOURCES]
    targets = [[target_tokens[i] for i in target] for target in TARGETS]
    results = ctranslate2.Translator(str(folder)).score_batch(spelled, targets)
    return np.concatenate([result.log_probs for result in results])


def padded(rows, pad_id):
    length = max(map(len, rows))
    return np.array([row + [pad_id] * (length - len(row)) for row in rows])


def expected(model):
    labels = [[*target, model.end_id] for target in TARGETS]
    sources = [[*source, model.end_id] for source in SOURCES]
    targets = [[model.start_id, *target] for target in TARGETS]
    ids = {"source": padded(sources, model.pad_id), "target": padded(targets, model.pad_id)}
    log_probs = ops.convert_to_numpy(ops.log_softmax(model(ids, training=False)))
    rows = zip(log_probs, labels, strict=True)
    return np.concatenate([row[np.arange(len(ids)), ids] for row, ids in rows])


class ExportTest:
    @pytest.mark.parametrize(
        "options",
        [
            {"layer_scale": 0.3, "epsilon": 1e-2, "position_layout": "concatenated"},
            {"norm_first": True, "activation": "gelu", "use_logits_bias": True},
            {"norm_first": True, "activation": "silu", "use_bias": False, **GROUPS},
            {"normalization": "rms", "activation": "tanh", "num_key_value_heads": 1},
            {"activation": "gelu_tanh", "start_id": 20, "end_id": 0, "pad_id": 20},
            {
                **{"share_embeddings": False, "target_vocabulary_size": 29, "tie_output": False},
                **{"norm_first": True, "use_final_norm": False, "activation": "sigmoid"},
                **{"position_layout": "tensor2tensor", "position_start": 1},
            },
        ],
    )
    def test_tokens_are_as_probable_as_in_the_model(self, options, tmp_path):
        model = make_model(**options)
        tokens = write(model, tmp_path)
        np.testing.assert_allclose(log_probabilities(tmp_path, tokens), expected(model), atol=1e-4)

    def test_smaller_weights_are_nearly_as_exact(self, tmp_path):
        model, sizes, differences = make_model(), [], []
        for quantization in ("float32", "int16", "int8", "bfloat16"):
            tokens = write(model, tmp_path / quantization, quantization=quantization)
            sizes.append((tmp_path / quantization / "model.bin").stat().st_size)
            found = log_probabilities(tmp_path / quantization, tokens)
            differences.append(np.max(np.abs(found - expected(model))))
        assert set(QUANTIZATIONS) == {"float32", "int16", "int8", "bfloat16"}
        assert sizes[0] > sizes[1] > sizes[2] and sizes[3] < 0.6 * sizes[0]
        exact, *differences = differences
        assert exact < 1e-4 < min(differences) and max(differences) < 0.3

    def test_a_source_may_be_as_long_as_was_asked_for(self, tmp_path):
        tokens = write(make_model(), tmp_path, max_length=1031)
        translator = ctranslate2.Translator(str(tmp_path))
        assert translator.score_batch([tokens[4:5] * 1030], [[]], max_input_length=0)
        with pytest.raises(RuntimeError, match="1031"):
            translator.score_batch([tokens[4:5] * 1031], [[]], max_input_length=0)


class RefusalTest:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"use_rotary": True}, "use_rotary=True"),
            ({"normalization": "affine"}, "normalization='affine'"),
            ({"activation": "elu"}, "activation='elu'"),
            ({"num_layers": 0}, "num_layers=0"),
            ({"intermediate_dim": None}, "intermediate_dim=None"),
        ],
    )
    def test_what_ctranslate2_cannot_express_is_named(self, options, named, tmp_path):
        sizes = {"num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 17}
        model = Seq2SeqTransformer(SIZE, **{**sizes, **options})
        with pytest.raises(ValueError, match=f"received {named}"):
            write(model, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_another_model_or_quantization_is_one_sentence(self, tmp_path):
        recurrent = Seq2SeqRNN.from_variant("multi30k", vocabulary_size=SIZE)
        with pytest.raises(ValueError, match="received a Seq2SeqRNN"):
            write(recurrent, tmp_path)
        with pytest.raises(ValueError, match="'bfloat16'.*, received quantization='int4'"):
            write(make_model(), tmp_path, quantization="int4")

    def test_a_missing_package_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "ctranslate2", None)
        with pytest.raises(ImportError, match=r'pip install "kerasformer\[ctranslate2\]"'):
            write(make_model(), tmp_path)
        assert not list(tmp_path.iterdir())
