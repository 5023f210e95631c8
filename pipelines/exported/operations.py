"""Which operations of a SavedModel reach beyond it: files, the network, Python.

A SavedModel is a program. `foreign_operation` reads what it would run, before any of it runs.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from google.protobuf.message import DecodeError
from tensorflow.core.framework import function_pb2, node_def_pb2, variable_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

Nodes = Sequence[node_def_pb2.NodeDef]

# Without `Experimental` before them and `V2`, `V3`, ... behind. Operations that need what one of
# these has made, such as those that read from a reader, are not listed.
FOREIGN = frozenset(
    "PyFunc PyFuncStateless EagerPyFunc XlaCustomCall"
    # A graph in a string, of which nobody knows what it does
    " DatasetFromGraph"
    # Files
    " ReadFile WriteFile MatchingFiles ImmutableConst FileSystemSetConfiguration RecordInput"
    " Save SaveSlices Restore RestoreSlice LoadAndRemapMatrix GenerateVocabRemapping"
    " FixedLengthRecordReader LMDBReader TextLineReader TFRecordReader WholeFileReader"
    " CSVDataset CacheDataset FixedLengthRecordDataset ListSnapshotChunksDataset LMDBDataset"
    " LoadDataset MatchingFilesDataset SaveDataset SnapshotChunkDataset SnapshotDataset"
    " SnapshotDatasetReader SnapshotNestedDatasetReader SqlDataset TextLineDataset TFRecordDataset"
    " DatasetToTFRecord DistributedSave CreateSummaryDbWriter CreateSummaryFileWriter"
    " InitializeTRTResource SerializeTRTResource DumpTensor CalibrationStatisticsSaver Skipgram"
    # The network
    " DataServiceDataset RegisterDataset RemoteCall Send Recv"
    # Either, by the addresses that they are given
    " Copy CopyHost DebugIdentity DebugNanCount DebugNumericSummary".split()
)
FOREIGN_KINDS = re.compile(r"Collective\w+|Rpc\w+")
SAVER = {"SaveV2", "MergeV2Checkpoints", "RestoreV2"}  # every export has them, for its variables
TABLE = re.compile(r"InitializeTableFromTextFile(V2)?")
# Attributes by which an operation reaches a file, and what they look like then.
ATTRIBUTES = {
    "PrintV2": ("output_stream", re.compile("file:.*", re.DOTALL)),
    "FixedUnigramCandidateSampler": ("vocab_file", re.compile(".+", re.DOTALL)),
    **dict.fromkeys(
        ("DecodeProtoV2", "EncodeProto"),
        ("descriptor_source", re.compile("(?!local://|bytes://).+", re.DOTALL)),
    ),
}


def foreign_operation(saved: saved_model_pb2.SavedModel) -> str | None:
    """Finds an operation by which a SavedModel could reach files, the network or Python.

    What every export needs is not foreign: to save and restore its variables, if nothing else
    calls that, and to read the tables among its own assets.

    Args:
        saved: the contents of `saved_model.pb`.

    Returns:
        A few words such as `"the operation WriteFile, in the function call_7"`, or `None`.
    """
    return next(filter(None, map(_foreign_in, saved.meta_graphs)), None)


def _foreign_in(graph: meta_graph_pb2.MetaGraphDef) -> str | None:
    for asset in _assets(graph):
        path = PurePosixPath(asset.filename)
        if path.is_absolute() or ".." in path.parts:
            return f"the asset {asset.filename!r}, which lies elsewhere"
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = graph.graph_def.node
    if graph.HasField("object_graph_def"):  # TensorFlow then runs functions alone.
        running, called = {}, [*graph.object_graph_def.concrete_functions]
        # TensorFlow may put one function in the place of another that has the same of these.
        called += [name for name, one in functions.items() if "api_implements" in one.attr]
        fed = _names_of_assets(graph)
    else:
        running = _upstream(nodes, _asked_for(graph))
        fed = _names_of_assets(graph) - running.keys()  # In what is asked for, nobody feeds them.
        begun = [x for one in graph.collection_def.values() for x in one.node_list.value]
        running |= _upstream(nodes, begun)
        called = [*_called(running.values(), functions)]
    restoring = _upstream(nodes, [graph.saver_def.restore_op_name])
    for node in nodes:
        allowed = _allowed(node.name in running, node.name in restoring)
        if _is_foreign(node, allowed) or _is_other_table(node, fed):
            return f"the operation {node.op}"
    run = _closure(called, functions)
    inner = {name for one in functions.values() for name in _called(one.node_def, functions)}
    restored = _closure(_called(restoring.values(), functions), functions)
    for name, function in functions.items():
        allowed = _allowed(name in run, name in restored)
        assets = _arguments_with_assets(function, graph, inner)
        for node in function.node_def:
            if _is_foreign(node, allowed) or _is_other_table(node, assets):
                return f"the operation {node.op}, in the function {name}"
    return None


def _asked_for(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    """Lists the tensors of TensorFlow 1 that are the answers, or the first values of variables."""
    for signature in graph.signature_def.values():
        yield from (output.name for output in signature.outputs.values())
    for name, collection in graph.collection_def.items():
        for contents in collection.bytes_list.value if name != "savers" else ():
            with contextlib.suppress(DecodeError):
                variable = variable_pb2.VariableDef.FromString(contents)
                yield from (variable.initializer_name, variable.initial_value_name)


def _allowed(is_run: bool, is_restored: bool) -> set[str]:
    """Returns which of the operations that move variables may be there."""
    if is_run:
        return set()
    return {"RestoreV2"} if is_restored else SAVER


def _is_foreign(node: node_def_pb2.NodeDef, allowed: Iterable[str]) -> bool:
    if node.op in SAVER:
        return node.op not in allowed
    if node.op in ATTRIBUTES:
        name, pattern = ATTRIBUTES[node.op]
        return bool(pattern.fullmatch(node.attr[name].s.decode(errors="replace")))
    base = re.sub(r"^_*(Experimental)?|V\d+$", "", node.op)
    return base in FOREIGN or bool(FOREIGN_KINDS.fullmatch(base))


def _is_other_table(node: node_def_pb2.NodeDef, assets: Iterable[str]) -> bool:
    """Tests whether a node reads a table from a file that is not among the assets."""
    if not TABLE.fullmatch(node.op):
        return False
    return len(node.input) < 2 or node.input[1].partition(":")[0] not in assets


def _assets(graph: meta_graph_pb2.MetaGraphDef) -> list[meta_graph_pb2.AssetFileDef]:
    old = graph.collection_def.get("saved_model_assets")  # TensorFlow 1 keeps them there.
    found = [meta_graph_pb2.AssetFileDef() for _ in (old.any_list.value if old else ())]
    for asset, packed in zip(found, old.any_list.value if old else (), strict=True):
        packed.Unpack(asset)
    return [*graph.asset_file_def, *found]


def _names_of_assets(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    return {asset.tensor_info.name.partition(":")[0] for asset in _assets(graph)}


def _arguments_with_assets(
    function: function_pb2.FunctionDef, graph: meta_graph_pb2.MetaGraphDef, called: set[str]
) -> set[str]:
    """Lists the arguments that TensorFlow fills with the paths of assets.

    Args:
        function: one of the graph.
        graph: the graph.
        called: names of the functions that others call.
    """
    objects, name = graph.object_graph_def, function.signature.name
    if name not in objects.concrete_functions or name in called:
        return set()  # A function that calls it may give it any other path.
    bound = objects.concrete_functions[name].bound_inputs
    arguments = [argument.name for argument in function.signature.input_arg]
    return {
        argument
        for argument, number in zip(reversed(arguments), reversed(bound), strict=False)
        if objects.nodes[number].WhichOneof("kind") == "asset"
    }


def _upstream(nodes: Nodes, names: Iterable[str]) -> dict[str, node_def_pb2.NodeDef]:
    """Finds the nodes that tensors or operations depend on, and themselves, by name."""
    by_name = {node.name: node for node in nodes}
    found: dict[str, node_def_pb2.NodeDef] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop().removeprefix("^").partition(":")[0]
        if name in by_name and name not in found:
            found[name] = by_name[name]
            waiting += by_name[name].input
    return found


def _called(nodes: Iterable, functions: Mapping[str, function_pb2.FunctionDef]) -> Iterator[str]:
    """Lists the functions that nodes call."""
    for node in nodes:
        attributes = node.attr.values()
        names = [node.op, *(x.func.name for x in attributes)]
        names += [one.name for x in attributes for one in x.list.func]
        yield from (name for name in names if name in functions)


def _closure(names: Iterable[str], functions: Mapping[str, function_pb2.FunctionDef]) -> set[str]:
    """Lists functions, and those that they call, and so on."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found.add(name)
            waiting += _called(functions[name].node_def, functions)
    return found
