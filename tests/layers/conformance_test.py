"""What every public layer and model must do, whatever it computes: point 8 of the layer contract.

Each test runs over all entries of `registry.py`. What costs most runs over `WHOLES` alone, the
composites that contain the leaves.
"""

import contextlib
import functools
import inspect
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import kerasformer
from tests import ROOT
from tests.backend import BACKEND, gradients, needs_tensorflow, recording, tf
from tests.layers.entries import B, Padded, Probe, constructor_arguments, padding
from tests.layers.registry import ENTRIES, WHOLE_LABELS, WHOLES, Subclassed

PUBLIC = [
    value
    for value in [*vars(kerasformer.layers).values(), *vars(kerasformer.models).values()]
    if isinstance(value, type) and issubclass(value, keras.layers.Layer)
]

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.label)
each_whole = pytest.mark.parametrize("entry", WHOLES, ids=lambda entry: entry.label)
built = functools.cache(lambda entry: entry.build())


def descendants(layer):
    """Lists `(parent, attribute, child)` of all layers below one."""
    # torch keeps layers that are attributes to itself.
    attributes = vars(layer) | (dict(layer.named_children()) if BACKEND == "torch" else {})
    for attribute, value in attributes.items():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, keras.layers.Layer) and not attribute.startswith("_"):
                yield layer, attribute, child
                yield from descendants(child)


def trunk_layers(layer):
    """Lists the layers of the functional model in a `TrunkClassifier`."""
    return getattr(getattr(layer, "trunk", None), "layers", [])[1:]


def arrays(outputs):
    return [ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


def assert_close(actual, expected, tolerance=1e-5):
    for x, y in zip(arrays(actual), arrays(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, strict=True)


def gradients_of(entry, layer, values, training=False):
    """Computes gradients of a sum that no normalisation keeps constant."""

    def total():
        outputs = keras.tree.flatten(entry.call(layer, values, training=training))
        return sum(ops.sum(ops.sin(x)) for x in outputs)

    return gradients(total, layer.trainable_variables)


def rows(values, start, stop):
    """Cuts examples out of a batch; what has no batch stays whole."""
    return {name: x[start:stop] if len(x) == B else x for name, x in values.items()}


class RegistryTest:
    def test_every_public_layer_and_model_is_registered(self):
        registered = {type(built(entry)) for entry in ENTRIES}
        missing = [layer.__name__ for layer in PUBLIC if layer not in registered]
        assert not missing, f"add to tests/layers/registry.py: {missing}"

    def test_every_public_layer_is_a_whole_or_inside_one(self):
        assert WHOLE_LABELS == {entry.label for entry in WHOLES}
        layers = [built(entry) for entry in WHOLES]
        inside = {type(child) for layer in layers for _, _, child in descendants(layer)}
        assert not set(PUBLIC) - inside - set(map(type, layers))

    @pytest.mark.parametrize("layer_class", PUBLIC)
    def test_some_entry_sets_each_optional_argument(self, layer_class):
        configs = [built(e).get_config() for e in ENTRIES if type(built(e)) is layer_class]
        for name, default in constructor_arguments(layer_class).items():
            assert any(config[name] != default for config in configs), name


@each_entry
class ConfigTest:
    def test_config_is_the_arguments_of_the_constructor(self, entry):
        layer = built(entry)
        expected = {"name", "trainable", "dtype", *constructor_arguments(type(layer))}
        assert set(layer.get_config()) == expected

    def test_config_survives_json_and_makes_an_equal_layer(self, entry):
        config = json.dumps(built(entry).get_config())
        assert json.dumps(entry.make(name=entry.name).get_config()) == config
        remade = type(built(entry)).from_config(json.loads(config))
        assert json.dumps(remade.get_config()) == config

    def test_a_layer_remade_but_never_called_takes_the_weights(self, entry):
        layer = built(entry)
        description = json.dumps(keras.saving.serialize_keras_object(layer))
        remade = keras.saving.deserialize_keras_object(json.loads(description))
        assert [w.path for w in remade.weights] == [w.path for w in layer.weights]
        remade.set_weights(layer.get_weights())
        assert_close(entry.call(remade, entry.values()), entry.call(layer, entry.values()), 0)

    def test_children_are_called_as_their_attributes(self, entry):
        for parent, attribute, child in descendants(built(entry)):
            same = {name for owner, name, x in descendants(parent) if (owner, x) == (parent, child)}
            if isinstance(getattr(parent, attribute), list):
                assert child.name.startswith(attribute.removesuffix("s") + "_")
            elif attribute not in constructor_arguments(type(parent)):
                assert child.name in same
        paths = [variable.path for variable in built(entry).variables]
        assert len(set(paths)) == len(paths)


@each_entry
class ModelTest:
    def test_it_works_in_a_functional_model(self, entry):
        layer, values = built(entry), entry.values()
        model = entry.functional(entry.make())
        model.set_weights(layer.get_weights())
        assert_close(model(values), entry.call(layer, values))

    @pytest.mark.integration
    def test_it_trains_and_reloads_in_a_subclassed_model(self, entry, tmp_path):
        model, values = Subclassed(entry.make(), entry.label), entry.values()
        target = np.ones(model(values).shape, "float32")
        if model.trainable_weights:
            model.compile("sgd", keras.losses.MeanSquaredError(), run_eagerly=True)
            with recording():
                assert np.isfinite(model.train_on_batch(values, target))
        model.save(tmp_path / "model.keras")
        assert_close(keras.models.load_model(tmp_path / "model.keras")(values), model(values), 0)

    def test_computed_and_symbolic_shapes_and_dtypes_are_those_of_a_call(self, entry):
        # On torch, Keras 3.15 does not cast weights while it traces, so that they need 16 bits too.
        layer = entry.make(dtype="float16" if BACKEND == "torch" else "mixed_float16")
        symbolic = entry.functional(layer).outputs
        eager = keras.tree.flatten(entry.call(layer, entry.values()))
        assert symbolic[0].dtype == (entry.output_dtype or layer.compute_dtype)
        for output, expected in zip(eager, symbolic, strict=True):
            assert keras.backend.standardize_dtype(output.dtype) == expected.dtype
            for size, said in zip(output.shape, expected.shape, strict=True):
                assert said in (None, size)

        shapes = {name: spec.shape for name, spec in entry.inputs.items()}
        shapes = {"inputs": shapes} if entry.in_dict else shapes
        arguments = {f"{name}_shape": shape for name, shape in shapes.items()} | entry.options
        accepted = inspect.signature(layer.compute_output_shape).parameters
        arguments = {name: value for name, value in arguments.items() if name in accepted}
        assert tuple(layer.compute_output_shape(**arguments)) == tuple(eager[0].shape)


@pytest.mark.integration
@each_whole
@needs_tensorflow
class CompilationTest:
    def test_compiled_by_xla_it_computes_the_same(self, entry):
        layer, values = built(entry), entry.values()

        def compute(values):
            return entry.call(layer, values), gradients_of(entry, layer, values)

        assert_close(
            tf.function(compute, jit_compile=True, autograph=False)(values), compute(values), 1e-4
        )


@each_whole
class PrecisionTest:
    @pytest.mark.parametrize(
        ("dtype", "error"), [("mixed_bfloat16", 0.05), ("mixed_float16", 0.006)]
    )
    def test_mixed_precision_is_close_to_float32(self, entry, dtype, error):
        layer, values = entry.build(dtype=dtype), entry.values()
        assert {weight.dtype for weight in layer.weights} <= {"float32"}
        for _, attribute, child in descendants(layer):
            assert child.dtype_policy == layer.dtype_policy, attribute
        outputs = keras.tree.flatten(entry.call(layer, values))
        dtype = keras.backend.standardize_dtype(outputs[0].dtype)
        assert dtype == (entry.output_dtype or layer.compute_dtype)
        exact = arrays(entry.call(built(entry), values))
        for actual, expected in zip(arrays(outputs), exact, strict=True):
            actual = actual.astype("float32")
            assert np.isfinite(actual).all()
            assert np.linalg.norm(actual - expected) < error * np.linalg.norm(expected)


@pytest.mark.integration
@each_entry
class QuantizationTest:
    def test_quantised_to_8_bits_it_computes_nearly_the_same_and_reloads(self, entry, tmp_path):
        """Whoever reads the weights of a layer that Keras can quantise must notice."""
        layer = entry.build()
        model = Subclassed(layer, entry.label)
        exact = arrays(entry.call(layer, entry.values()))
        children = [child for _, _, child in descendants(layer)] + trunk_layers(layer)
        for child in {id(child): child for child in children}.values():
            if isinstance(child, keras.Model):  # Its layers are among the children.
                continue
            with contextlib.suppress(NotImplementedError):
                child.quantize("int8")
            is_known = isinstance(child, (keras.layers.Dense, keras.layers.EinsumDense))
            assert child.quantization_mode == ("int8" if is_known else None)
        for actual, expected in zip(arrays(entry.call(layer, entry.values())), exact, strict=True):
            assert np.linalg.norm(actual - expected) <= 0.03 * np.linalg.norm(expected)
        outputs = model(entry.values())
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert_close(again(entry.values()), outputs, 0)


@each_entry
class ComputationTest:
    def test_gradient_reaches_every_weight(self, entry):
        layer = built(entry)
        found = gradients_of(entry, layer, entry.values(), training=True)
        for weight, gradient in zip(layer.trainable_variables, found, strict=True):
            assert gradient is not None, weight.path
            gradient = ops.convert_to_numpy(gradient)
            assert np.isfinite(gradient).all() and gradient.any(), weight.path

    def test_inference_is_deterministic_and_training_drops(self, entry):
        layer, values = built(entry), entry.values()
        outputs = arrays(entry.call(layer, values, training=False))
        assert_close(entry.call(layer, values), outputs, 0)
        trained = arrays(entry.call(layer, values, training=True))
        drops = any(v for n, v in layer.get_config().items() if n.endswith(("dropout", "depth")))
        drops |= any(weight.name == "moving_mean" for weight in layer.weights)
        assert drops == any((x != y).any() for x, y in zip(trained, outputs, strict=True))

    def test_a_row_does_not_depend_on_its_batch(self, entry):
        layer, values = built(entry), entry.values()
        together = arrays(entry.call(layer, values))
        for row in range(B):
            alone = entry.call(layer, rows(values, row, row + 1))
            assert_close(alone, [x[row : row + 1] for x in together])


def masked_call(entry, values):
    """Calls with Keras's masks on the sequences, and by hand where the documentation says so."""
    hidden = {name: padding(values[name]) for name in {"inputs", "context"} & set(values)}
    hidden = hidden if entry.mask in ("kept", "used") else {}
    by_hand = {"attention_mask", "position_bias"} & set(values)
    options = {"mask": ops.convert_to_tensor(hidden["inputs"])} if by_hand else {}
    values = values | {name: Padded(mask)(values[name]) for name, mask in hidden.items()}
    return keras.tree.flatten(entry.call(built(entry), values, **options))[0]


class MaskTest:
    @each_entry
    def test_mask_is_kept_made_or_absent(self, entry):
        probe, values = Probe(), entry.values()
        outputs = probe(masked_call(entry, values))
        expected = entry.mask_behind(values, outputs.shape[1])
        if expected is None:
            assert probe.seen is None
        else:
            np.testing.assert_array_equal(probe.seen, expected)

    @pytest.mark.parametrize(
        "entry",
        [entry for entry in ENTRIES if entry.mask in ("kept", "used")],
        ids=lambda entry: entry.label,
    )
    def test_what_is_masked_changes_nothing_else(self, entry):
        values = entry.values()
        changed = dict(values)
        for name in {"inputs", "context"} & set(values):
            changed[name] = values[name] + 3.0 * ~padding(values[name])[..., None]
        before, after = arrays([masked_call(entry, values), masked_call(entry, changed)])
        real = entry.mask_behind(values, before.shape[1])
        real = np.ones(B, bool) if entry.mask == "used" else real
        np.testing.assert_array_equal(before[real], after[real])
        if entry.mask != "used" and entry.reads_itself:
            assert np.any(before[~real] != after[~real])


def train_step(entry, strategy, values):
    """Trains one step on a batch shared out over replicas; returns the weights of each."""
    with strategy.scope():
        layer = entry.build()
        for child in trunk_layers(layer):
            if isinstance(child, keras.layers.BatchNormalization):
                child.synchronized = True  # As the training loop does.
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(layer.trainable_variables)
    share = B // strategy.num_replicas_in_sync

    def replica_step(values):
        entry.call(layer, values, training=True)
        found = gradients_of(entry, layer, values)
        if found:
            optimizer.apply(found, layer.trainable_variables)
        return [tf.identity(weight.value) for weight in layer.weights]

    def share_out(context):
        start = context.replica_id_in_sync_group * share
        return keras.tree.map_structure(tf.constant, rows(values, start, start + share))

    shares = strategy.experimental_distribute_values_from_function(share_out)
    weights = strategy.run(replica_step, (shares,))
    return list(zip(*map(strategy.experimental_local_results, weights), strict=True))


@pytest.mark.integration
@each_whole
@needs_tensorflow
class ReplicaTest:
    def test_a_step_on_two_replicas_equals_a_step_on_one(self, entry):
        two = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
        alone = train_step(entry, tf.distribute.get_strategy(), entry.values())
        for weights in train_step(entry, two, entry.values()):
            assert_close(weights, alone[0], 1e-4)


LOAD_FILES = """
import pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[1])
if (folder / "model").exists():
    import tensorflow as tf
    for name, signature in tf.saved_model.load(str(folder / "model")).signatures.items():
        inputs = np.load(folder / f"{name}.inputs.npz").items()
        outputs = signature(**{key: tf.constant(value) for key, value in inputs})
        np.savez(folder / f"{name}.saved_model.npz", *tf.nest.flatten(outputs))
    assert "kerasformer" not in sys.modules
import keras, kerasformer
for name in sys.argv[2:]:
    assert keras.saving.get_registered_object(name), name
for path in folder.glob("*.keras"):
    inputs = dict(np.load(path.with_suffix(".inputs.npz")))
    outputs = keras.models.load_model(path)(inputs)
    outputs = map(keras.ops.convert_to_numpy, keras.tree.flatten(outputs))
    np.savez(path.with_suffix(".keras.npz"), *outputs)
"""
# The weights come from files, so that JAX need not compile a random draw of each of their shapes.
BUILD_ON_JAX = """
import pathlib, sys
sys.modules["tensorflow"] = None
import jax, keras
import numpy as np
from tests.layers.registry import ENTRIES
for drawn in (keras.initializers.VarianceScaling, keras.initializers.RandomNormal):
    drawn.__call__ = lambda self, shape, dtype=None: np.zeros(shape, dtype)
folder, layers = pathlib.Path(sys.argv[1]), []
for entry in ENTRIES:
    layers.append(entry.make(name=entry.name))
    entry.call(layers[-1], entry.symbols())
    layers[-1].set_weights(list(np.load(folder / f"{entry.name}.weights.npz").values()))
compute = jax.jit(lambda values: [e.call(*args) for e, *args in zip(ENTRIES, layers, values)])
for entry, outputs in zip(ENTRIES, compute([entry.values() for entry in ENTRIES])):
    np.savez(folder / f"{entry.name}.jax.npz", *jax.tree.leaves(outputs))
"""


def run_in_fresh_process(code, folder, *arguments, **environment):
    """Runs code that writes to a folder the outputs of entries."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code, str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def assert_same_outputs(folder, kind, entries):
    """Compares the outputs that a process left in a folder with those here."""
    for entry in entries:
        outputs = list(np.load(folder / f"{entry.name}.{kind}.npz").values())
        assert_close(outputs, entry.call(built(entry), entry.values()), 1e-4)


def save_model(folder):
    """Saves all wholes as the signatures of one SavedModel."""
    module, signatures = tf.Module(), {}
    module.layers = [built(entry) for entry in WHOLES]
    for entry in WHOLES:

        @tf.function(autograph=False)
        def outputs(entry=entry, **tensors):
            flat = keras.tree.flatten(entry.call(built(entry), tensors))
            return {f"output_{index}": x for index, x in enumerate(flat)}

        specs = {k: tf.TensorSpec(s.open_shape, s.dtype, k) for k, s in entry.inputs.items()}
        signatures[entry.name] = outputs.get_concrete_function(**specs)
    tf.saved_model.save(module, folder / "model", signatures=signatures)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The folder of files that a fresh process loaded, first where TensorFlow alone is imported."""
    folder = tmp_path_factory.mktemp("loaded")
    for entry in WHOLES:
        layer = built(entry)
        model = layer if entry.in_dict else entry.functional(layer)
        model.save(folder / f"{entry.name}.keras")
        np.savez(folder / f"{entry.name}.inputs.npz", **entry.values())
    if tf:
        save_model(folder)
    registered = [f"kerasformer>{layer.__name__}" for layer in PUBLIC]
    run_in_fresh_process(LOAD_FILES, folder, *registered)
    return folder


@pytest.mark.integration
class FreshProcessTest:
    def test_keras_files_load_where_only_the_library_is_imported(self, loaded):
        assert_same_outputs(loaded, "keras", WHOLES)

    @needs_tensorflow
    def test_a_saved_model_loads_where_only_tensorflow_is_imported(self, loaded):
        assert_same_outputs(loaded, "saved_model", WHOLES)

    @needs_tensorflow
    def test_jax_without_tensorflow_computes_the_same(self, tmp_path):
        for entry in ENTRIES:
            np.savez(tmp_path / f"{entry.name}.weights.npz", *built(entry).get_weights())
        run_in_fresh_process(BUILD_ON_JAX, tmp_path, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
        assert_same_outputs(tmp_path, "jax", ENTRIES)
