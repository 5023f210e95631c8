"""Tests of what a SavedModel would run: what reaches beyond it is found wherever it hides."""

import inspect
import re

import pytest
import tensorflow as tf
import tensorflow_text
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from pipelines.exported import operations
from pipelines.exported.operations import foreign_operation

TEXT = tf.TensorSpec((None,), tf.string, name="text")
RAW = sorted(name for name in dir(tf.raw_ops) if name[0].isupper())
# Arguments by which an operation may name a file, a host or a function of Python.
REACHING = re.compile(
    r"file(s|names?|_patterns?)?|\w*_file|paths?|\w+_path|address|\w*urls?|directory|\w*dir|\w*uri"
    r"|\w*prefix(es)?|patterns?|memory_region_name|token|data_source_name|output_stream"
)
# They have such an argument, and reach nothing: patterns and prefixes of texts, an order of steps,
# events that a writer takes which another operation has made.
HARMLESS = set(
    "RegexFullMatch RegexReplace SetStatsAggregatorDataset ExperimentalSetStatsAggregatorDataset"
    " CollectiveAllToAllV2 CollectiveGatherV2 CollectiveReduceScatterV2 CollectiveReduceV2"
    " StaticRegexFullMatch StaticRegexReplace".split()
)

# Reach further without such an argument.
OTHERS = re.compile(
    "Reader|Collective|Debug|Copy|Send|Recv|RemoteCall|Snapshot|FileSystem|Register|FromGraph"
)


def read(folder):
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def save(function, folder, **children):
    """Saves a model of one function of texts, and reads it again."""
    module = tf.Module()
    for name, child in children.items():
        setattr(module, name, child)
    function = tf.function(function, input_signature=[TEXT], autograph=False)
    tf.saved_model.save(module, str(folder), signatures=function)
    return read(folder)


def saved(*ops, **attributes):
    """Describes a SavedModel of TensorFlow 1 with nodes of some operations."""
    graph = meta_graph_pb2.MetaGraphDef()
    for op in ops:
        node = graph.graph_def.node.add(op=op, name=op)
        for name, value in attributes.items():
            node.attr[name].s = value
    return saved_model_pb2.SavedModel(meta_graphs=[graph])


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "words.txt"
    path.write_text("[UNK]\na\nb\n")
    return str(path)


def table(path):
    index, line = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
    initializer = tf.lookup.TextFileInitializer(path, tf.string, line, tf.int64, index)
    return tf.lookup.StaticHashTable(initializer, -1)


class NamedTest:
    @pytest.mark.parametrize(
        "operation", ["DatasetFromGraph", "DumpTensor", "CalibrationStatisticsSaver", "Skipgram"]
    )
    def test_what_raw_operations_lack_or_carry_in_a_string_is_refused(self, operation):
        saved = saved_model_pb2.SavedModel()
        saved.meta_graphs.add().graph_def.node.add(name="x", op=operation)
        assert f"the operation {operation}" in foreign_operation(saved)

    @pytest.mark.parametrize(
        ("source", "is_refused"),
        [("/etc/types.pb", True), ("local://", False), ("bytes://a", False)],
    )
    def test_types_of_messages_are_not_read_from_a_file(self, source, is_refused):
        saved = saved_model_pb2.SavedModel()
        node = saved.meta_graphs.add().graph_def.node.add(name="x", op="DecodeProtoV2")
        node.attr["descriptor_source"].s = source.encode()
        assert bool(foreign_operation(saved)) == is_refused


class HarmlessTest:
    def test_vocabularies_among_the_assets_are_read(self, tmp_path, vocabulary):
        words, pieces = table(vocabulary), tensorflow_text.BertTokenizer(vocabulary)

        def look_up(text):
            ids = pieces.tokenize(text).merge_dims(1, 2).to_tensor()
            return {"word": words.lookup(text), "pieces": ids}

        found = save(look_up, tmp_path, words=words, pieces=pieces, number=tf.Variable(2.0))
        assert foreign_operation(found) is None
        (asset, *_) = found.meta_graphs[0].asset_file_def
        for elsewhere in ("/etc/passwd", "../../words.txt", "a/../../b"):
            asset.filename = elsewhere
            assert foreign_operation(found) == f"the asset '{elsewhere}', which lies elsewhere"

    def test_a_model_of_tensorflow_1_is_restored_and_initialised(self, tmp_path, vocabulary):
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            words = table(vocabulary)
            text = v1.placeholder(tf.string, [None])
            scale = v1.get_variable("scale", initializer=2.0)
            answer = tf.cast(words.lookup(text), tf.float32) * scale
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            v1.saved_model.simple_save(
                session, str(tmp_path / "1"), {"text": text}, {"y": answer}, v1.tables_initializer()
            )
        found = read(tmp_path / "1")
        assert foreign_operation(found) is None
        (graph,) = found.meta_graphs
        (output,) = graph.signature_def["serving_default"].outputs.values()
        for name, op in [
            ("save/SaveV2", "SaveV2"),
            ("save/RestoreV2", "RestoreV2"),
            ("text_file_init/InitializeTableFromTextFileV2", "InitializeTableFromTextFileV2"),
        ]:
            node = next(n for n in graph.graph_def.node if n.name == output.name.partition(":")[0])
            node.input.append(f"^{name}")
            assert foreign_operation(found) == f"the operation {op}"
            del node.input[-1]


class ForeignTest:
    def test_what_takes_a_path_or_an_address_is_foreign(self):
        attributes = {"output_stream": b"file:///tmp/a", "vocab_file": b"/etc/passwd"}
        for op in RAW:
            arguments = inspect.signature(getattr(tf.raw_ops, op)).parameters
            if any(map(REACHING.fullmatch, arguments)) and op not in HARMLESS | operations.SAVER:
                assert foreign_operation(saved(op, **attributes)) == f"the operation {op}"
            elif foreign_operation(saved(op)):
                assert OTHERS.search(op), op

    def test_printing_is_not_foreign_but_into_a_file(self):
        for stream in (b"stderr", b"stdout", b"log(info)"):
            assert foreign_operation(saved("PrintV2", output_stream=stream)) is None
        assert foreign_operation(saved("FixedUnigramCandidateSampler", vocab_file=b"")) is None

    def test_it_is_found_in_what_a_signature_calls(self, tmp_path):
        def write(text):
            tf.io.write_file(text[0], "x")
            return text

        def hide(text):
            return {
                "y": tf.map_fn(
                    lambda x: tf.cond(x == "", lambda: x, lambda: tf.io.read_file(x)), text
                )
            }

        for name, function, op in [
            ("write", lambda text: {"y": write(text)}, "WriteFile"),
            ("inner", hide, "ReadFile"),
            (
                "python",
                lambda text: {"y": tf.py_function(lambda x: x, [text], tf.string)},
                "EagerPyFunc",
            ),
        ]:
            found = foreign_operation(save(function, tmp_path / name))
            assert re.fullmatch(rf"the operation {op}, in the function \S+", found)

    def test_it_is_found_in_what_runs_while_a_model_is_loaded(self, tmp_path, vocabulary):
        class Writing(tf.lookup.TextFileInitializer):
            def initialize(self, table):
                tf.io.write_file("/tmp/a", "x")
                return super().initialize(table)

        index, line = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
        words = tf.lookup.StaticHashTable(Writing(vocabulary, tf.string, line, tf.int64, index), -1)
        found = save(lambda text: {"y": words.lookup(text)}, tmp_path, words=words)
        assert "the operation WriteFile, in the function" in foreign_operation(found)

    def test_saving_and_restoring_are_foreign_where_something_calls_them(self, tmp_path):
        def save_text(text):
            tf.raw_ops.SaveV2(
                prefix=text[0], tensor_names=["a"], shape_and_slices=[""], tensors=[1]
            )
            return {"y": text}

        def restore(text):
            one = tf.raw_ops.RestoreV2(
                prefix=text[0], tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string]
            )
            return {"y": one[0]}

        for name, function, op in (("a", save_text, "SaveV2"), ("b", restore, "RestoreV2")):
            found = save(function, tmp_path / name)
            assert f"the operation {op}, in the function" in foreign_operation(found)

    def test_a_table_is_foreign_when_its_path_is_not_that_of_an_asset(self, tmp_path, vocabulary):
        words = table(vocabulary)
        found = save(lambda text: {"y": words.lookup(text)}, tmp_path, words=words)
        (graph,) = found.meta_graphs
        functions = graph.graph_def.library.function
        (reader,) = [f for f in functions if any(map(is_table, f.node_def))]
        # Another function hands it a path of its own.
        caller = next(f for f in functions if f is not reader)
        caller.node_def.add(name="call", op="PartitionedCall").attr[
            "f"
        ].func.name = reader.signature.name
        assert "the operation InitializeTableFromTextFileV2" in foreign_operation(found)
        del caller.node_def[-1]
        assert foreign_operation(found) is None
        node = next(filter(is_table, reader.node_def))
        reader.node_def.add(name="path", op="Const")
        node.input[1] = "path:output:0"
        assert "the operation InitializeTableFromTextFileV2" in foreign_operation(found)


def is_table(node: node_def_pb2.NodeDef) -> bool:
    return bool(operations.TABLE.fullmatch(node.op))
