"""Models out to CTranslate2: a `Seq2SeqTransformer` becomes a folder that it decodes fast.

CTranslate2 keeps kernels as rows (out, in), and those of query, key and value (or of key and value)
in one matrix, in the order in which ours are.
"""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasformer.interop.agreement import one_sentence
from kerasformer.layers.activations import gelu_tanh, get_activation
from kerasformer.layers.positions.sequences import sinusoidal_positions
from kerasformer.models import Seq2SeqTransformer

QUANTIZATIONS = ("float32", "int16", "int8", "bfloat16")
MIN_POSITIONS = 1024  # As many tokens of a source CTranslate2 reads by default.
ACTIVATIONS = {
    keras.activations.relu: "RELU",
    keras.activations.gelu: "GELU",
    gelu_tanh: "GELUTanh",
    keras.activations.silu: "SWISH",
    keras.activations.tanh: "Tanh",
    keras.activations.sigmoid: "Sigmoid",
}


def import_ctranslate2():
    """Imports CTranslate2.

    Returns:
        The module `ctranslate2`.

    Raises:
        ImportError: where it is missing.

    Example:

    >>> import_ctranslate2().__name__
    'ctranslate2'
    """
    try:
        import ctranslate2
    except ImportError as error:
        raise ImportError(
            'CTranslate2 needs its package: `pip install "kerasformer[ctranslate2]"`.'
        ) from error
    return ctranslate2


def export_ctranslate2(
    model,
    folder,
    vocabulary,
    target_vocabulary=None,
    unknown="<unk>",
    quantization="float32",
    max_length=MIN_POSITIONS,
):
    """Writes a model as `model.bin`, `config.json` and vocabularies into a folder.

    CTranslate2 puts the end token behind a source and the start token before a target by itself.

    Args:
        model: built `Seq2SeqTransformer`.
        folder: str or path of a folder, which is made if it is not there.
        vocabulary: list of str, the token of each id (of a source, where a target has others).
        target_vocabulary: list of str or `None`, where a target has others. The start and the end
            token have these names on both sides.
        unknown: str. The token that stands for any other.
        quantization: str. What weights become: `"float32"`, `"int16"`, `"int8"` or `"bfloat16"`.
        max_length: int. The most tokens of a source or a target, end token included.

    Raises:
        ImportError: where CTranslate2 is missing.
        ValueError: for another quantization, or a model that CTranslate2 cannot express.

    Example:

    >>> import os, tempfile
    >>> model = Seq2SeqTransformer.from_variant("tiny", vocabulary_size=5)
    >>> model.build()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_ctranslate2(model, folder, ["<pad>", "<s>", "</s>", "<unk>", "a"])
    ...     sorted(os.listdir(folder))
    ['config.json', 'model.bin', 'shared_vocabulary.json']

    References:
        - [Klein et al., 2020](https://aclanthology.org/2020.ngt-1.25/)
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"Expected quantization to be one of {QUANTIZATIONS}, received {quantization=}."
        )
    check_model(model)
    ctranslate2 = import_ctranslate2()
    # CTranslate2 makes bfloat16 by torch, but takes what is bfloat16 already.
    dtype = "bfloat16" if quantization == "bfloat16" else "float32"
    target = vocabulary if target_vocabulary is None else target_vocabulary
    spec = _make_spec(model, ctranslate2.specs)
    _Weights(model, dtype).fill(spec, max(max_length, MIN_POSITIONS))
    special = {each: target[each] for each in (model.start_id, model.end_id)}
    spec.register_source_vocabulary(
        [special.get(number, token) for number, token in enumerate(vocabulary)]
    )
    spec.register_target_vocabulary(list(target))
    spec.config.decoder_start_token = spec.config.bos_token = target[model.start_id]
    spec.config.eos_token = target[model.end_id]
    spec.config.unk_token = unknown
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = model.encoder.epsilon
    with one_sentence("CTranslate2 cannot write the model"):
        spec.validate()
        spec.optimize(quantization=quantization)
        Path(folder).mkdir(exist_ok=True)
        spec.save(str(folder))


def check_model(model):
    """Refuses a model that CTranslate2 cannot express.

    Args:
        model: `Seq2SeqTransformer`.

    Raises:
        ValueError: naming the first argument that it has no counterpart of.
    """
    if not isinstance(model, Seq2SeqTransformer):
        raise ValueError(
            "Expected a Seq2SeqTransformer, because CTranslate2 has no other translators, received "
            f"a {type(model).__name__}."
        )
    stack = model.encoder
    names = sorted(set(ACTIVATIONS.values()))
    for name, fits, expected in (
        ("use_rotary", not stack.use_rotary, "False, because its rotary models add no sinusoids"),
        ("normalization", stack.normalization in ("layer", "rms"), "'layer' or 'rms'"),
        ("activation", get_activation(stack.activation) in ACTIVATIONS, f"one of {names}"),
        ("num_layers", stack.num_layers > 0, "at least 1"),
        ("intermediate_dim", stack.intermediate_dim is not None, "a number"),
    ):
        if not fits:
            raise ValueError(
                f"Expected {name} to be {expected}, to be written for CTranslate2, received "
                f"{name}={getattr(stack, name)!r}."
            )


def _make_spec(model, specs):
    """Makes the specification of a model, still without weights."""
    stack = model.encoder
    arguments = {
        "num_layers": stack.num_layers,
        "num_heads": stack.num_heads,
        "pre_norm": stack.norm_first,
        "no_final_norm": stack.final_norm is None,
        "activation": specs.Activation[ACTIVATIONS[get_activation(stack.activation)]],
        "ffn_glu": stack.use_gate,
        "rms_norm": stack.normalization == "rms",
        "num_heads_kv": stack.num_key_value_heads,
        "head_dim": stack.key_dim,
    }
    # As `explain.alignment`: all heads of the last layer but one.
    alignment = {"alignment_layer": max(stack.num_layers - 2, 0), "alignment_heads": 0}
    return specs.TransformerSpec(
        specs.TransformerEncoderSpec(**arguments),
        specs.TransformerDecoderSpec(**arguments, **alignment),
    )


class _Weights:
    """Fills a specification with the weights of a model, as arrays of a dtype."""

    def __init__(self, model, dtype):
        self.model = model
        self.dtype = dtype

    def fill(self, spec, num_positions):
        model = self.model
        positions = np.arange(num_positions) + model.positions.start
        table = sinusoidal_positions(positions, model.hidden_dim, model.positions.layout)
        sides = (
            (spec.encoder, model.encoder, model.source_embedding, spec.encoder.embeddings[0]),
            (spec.decoder, model.decoder, model.target_embedding, spec.decoder.embeddings),
        )
        for side, stack, embedding, embedding_spec in sides:
            embedding_spec.weight = self.array(embedding.embeddings)
            side.scale_embeddings = embedding.use_scale
            side.position_encodings.encodings = self.array(table)
            if stack.final_norm is not None:
                self.norm(side.layer_norm, stack.final_norm)
            for layer, block in zip(side.layer, stack.blocks, strict=True):
                self.block(layer, block)
        output = model.output_embedding
        spec.decoder.projection.weight = self.array(output.embeddings)
        if output.use_logits_bias:
            spec.decoder.projection.bias = self.array(output.logits_bias)

    def block(self, layer, block):
        attention = block.self_attention.sublayer
        denses = (attention.query_key_value_dense, attention.output_dense)
        self.sublayer(layer.self_attention, block.self_attention, denses)
        if block.cross_attention is not None:
            attention = block.cross_attention.sublayer
            denses = (attention.query_dense, attention.key_value_dense, attention.output_dense)
            self.sublayer(layer.attention, block.cross_attention, denses)
        self.norm(layer.ffn.layer_norm, block.feed_forward.norm)
        feed_forward = block.feed_forward.sublayer
        self.dense(layer.ffn.linear_1, feed_forward.output_dense, self.scale(block.feed_forward))
        if block.use_gate:
            self.dense(layer.ffn.linear_0, feed_forward.inner_dense, half=0)
            self.dense(layer.ffn.linear_0_noact, feed_forward.inner_dense, half=1)
        else:
            self.dense(layer.ffn.linear_0, feed_forward.inner_dense)

    def sublayer(self, attention, residual, denses):
        self.norm(attention.layer_norm, residual.norm)
        for linear, dense in zip(attention.linear, denses, strict=True):
            is_last = dense is denses[-1]
            self.dense(linear, dense, self.scale(residual) if is_last else 1.0)

    def scale(self, residual):
        """Returns the factors of what a sublayer adds, which its last product takes over."""
        return 1.0 if residual.layer_scale is None else ops.convert_to_numpy(residual.scale)

    def dense(self, linear, dense, scale=1.0, half=None):
        """Fills a product, or with `half` one of the two that stand side by side in ours."""
        kernel = ops.convert_to_numpy(dense.kernel) * scale
        bias = ops.convert_to_numpy(dense.bias) * scale if dense.use_bias else None
        if half is not None:
            kernel = np.split(kernel, 2, axis=1)[half]
            bias = None if bias is None else np.split(bias, 2)[half]
        linear.weight = self.array(kernel.T)
        if bias is not None:
            linear.bias = self.array(bias)

    def norm(self, spec, norm):
        is_layer = hasattr(spec, "beta")
        spec.gamma = self.array(norm.gamma if is_layer else norm.scale)
        if is_layer:
            spec.beta = self.array(norm.beta)

    def array(self, values):
        values = np.asarray(ops.convert_to_numpy(values), "float32")
        return np.ascontiguousarray(values).astype(self.dtype)
