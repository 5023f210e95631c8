"""The halves of a translator step through a sentence as the whole model reads it, in ONNX too."""

import numpy as np
import onnxruntime
import pytest

from kerasformer import decoding
from kerasformer.interop.onnx import export_onnx
from kerasformer.models import Seq2SeqRNN, Seq2SeqTransformer
from pipelines.tasks.translation import id_translator

VOCABULARY, LAYERS, HEADS, SIZE = 23, 2, 3, 4
SOURCE = np.array([[7, 5, 11, 2, 0], [13, 3, 17, 19, 2], [2, 0, 0, 0, 0]], np.int32)


def make_model(**options):
    model = Seq2SeqTransformer(VOCABULARY, LAYERS, HEADS * SIZE, HEADS, 17, **options)
    model.build()
    return model


def in_tensorflow(model):
    functions = {name: function for name, (function, _) in id_translator.functions(model).items()}
    return lambda name, **inputs: {k: v.numpy() for k, v in functions[name](**inputs).items()}


def in_onnx(model, folder):
    sessions = {}
    for name, (function, samples) in id_translator.functions(model).items():
        export_onnx(function, folder / f"{name}.onnx", samples)
        sessions[name] = onnxruntime.InferenceSession(folder / f"{name}.onnx")

    def run(name, **inputs):
        outputs = [output.name for output in sessions[name].get_outputs()]
        return dict(zip(outputs, sessions[name].run(outputs, inputs), strict=True))

    return run


def greedy(run, source, length):
    """Searches in NumPy: the best token, again and again."""
    state = run("encoder", source=source)
    token_ids, found = np.full(len(source), 1, np.int32), []
    for _ in range(length):
        outputs = run("decoder_step", token_ids=token_ids, **state)
        state["cache"] = outputs["new_cache"]
        best = outputs["logits"][:, 2:].argmax(axis=-1) + 2
        has_ended = np.any(np.array([token_ids, *found]) == 2, axis=0)
        token_ids = np.where(has_ended, 0, best).astype(np.int32)
        found.append(token_ids)
    return np.stack(found, axis=1)


class StepTest:
    @pytest.mark.parametrize(
        "options",
        [{}, {"share_embeddings": False, "target_vocabulary_size": 29, "norm_first": True}],
    )
    @pytest.mark.parametrize("beams", [1, 3])
    def test_its_steps_equal_the_full_pass(self, options, beams):
        model = make_model(**options)
        run = in_tensorflow(model)
        target = np.random.default_rng(1).integers(3, VOCABULARY, (3 * beams, 5)).astype(np.int32)
        whole = {"source": np.repeat(SOURCE, beams, axis=0), "target": target}
        expected = model(whole, training=False).numpy()
        state = run("encoder", source=SOURCE)
        assert state["cache"].shape == (LAYERS, 2, 3, HEADS, 0, SIZE)
        state["cache"] = np.repeat(state["cache"], beams, axis=2)
        for position in range(5):
            outputs = run("decoder_step", token_ids=target[:, position], **state)
            np.testing.assert_allclose(
                outputs["logits"], expected[:, position], rtol=1e-4, atol=1e-4
            )
            state["cache"] = outputs["new_cache"]
            assert state["cache"].shape == (LAYERS, 2, 3 * beams, HEADS, position + 1, SIZE)


@pytest.mark.integration
class OnnxTest:
    def test_a_search_in_numpy_finds_what_ours_finds(self, tmp_path):
        # Not the same token again and again.
        self.compare(tmp_path, make_model(activation="gelu", tie_output=False))

    def test_a_recurrent_model_searches_by_the_same_program(self, tmp_path):
        model = Seq2SeqRNN(VOCABULARY, num_layers=1, hidden_dim=7, tie_output=False)
        model.build()
        random = np.random.default_rng(1)
        model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
        self.compare(tmp_path, model)

    def compare(self, tmp_path, model):
        found = greedy(in_onnx(model, tmp_path), SOURCE, length=13)
        begin = model.start_decoding(SOURCE, max_length=13)
        ours = decoding.beam_search(*begin, np.full(3, 1), max_length=13, beam_size=1)
        np.testing.assert_array_equal(found, ours.token_ids[:, 0])
        assert len(np.unique(found)) > 4
