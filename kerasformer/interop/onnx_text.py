"""SentencePiece in an ONNX model: sentences in, sentences out.

ONNX has no tokenizer. The package onnxruntime-extensions gives ONNX Runtime the operations
`SentencepieceTokenizer` and `SentencepieceDecoder`, which hold a SentencePiece model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kerasformer.interop.onnx_packages import writers

DOMAIN = "ai.onnx.contrib"  # of the operations of onnxruntime-extensions
TOKENS, STARTS, TOKEN_IDS = "tokens", "starts", "token_ids"


class TextSearch(NamedTuple):
    """A search over token ids, and the tokenizers between which a file holds it.

    Attributes:
        function: `tf.function` of `tokens` int32 `(n,)`, the ids of all sentences one after the
            other, and `starts` int64 `(B + 1,)`, where each begins and where the last one ends. It
            returns a dict that has `token_ids` int32 `(B, T)` among others; ids without text, such
            as padding, may stand anywhere.
        source, target: bytes. SentencePiece models of what is read and of what is written.
        text, result: str. Names of the input and of the output of the file that are sentences.
    """

    function: Callable
    source: bytes
    target: bytes
    text: str = "text"
    result: str = "translation"


def put_between_tokenizers(model: Any, search: TextSearch) -> None:
    """Lets an ONNX model of token ids take and give sentences, string tensors `(B,)`.

    Args:
        model: `onnx.ModelProto` of `search.function`, which is changed.
        search: its tokenizers, and the names of what goes in and out.
    """
    helper, types = writers().onnx.helper, writers().onnx.TensorProto
    graph = model.graph
    constants = {
        "nbest_size": (types.INT64, 0),  # No sampling.
        "alpha": (types.FLOAT, 0.0),
        "no": (types.BOOL, False),
    }
    for name, (kind, value) in constants.items():
        graph.initializer.append(helper.make_tensor(name, kind, [1], [value]))
    tokenizer = helper.make_node(
        "SentencepieceTokenizer",
        # Neither start nor end token, not in reverse, and ids as the model has them.
        [search.text, "nbest_size", "alpha", *["no"] * 4],
        [TOKENS, STARTS, "offsets"],
        domain=DOMAIN,
        model=search.source,
    )
    graph.node.insert(0, tokenizer)
    rows = f"{search.result}_0"
    graph.node.append(helper.make_node("Shape", [TOKEN_IDS], ["rows"], start=0, end=1))
    body = _spell_row(search.target)
    graph.node.append(helper.make_node("Loop", ["rows", ""], [search.result], body=body))
    inputs = [helper.make_tensor_value_info(search.text, types.STRING, [f"{search.text}_0"])]
    outputs = [helper.make_tensor_value_info(search.result, types.STRING, [rows])]
    outputs += [value for value in graph.output if value.name != TOKEN_IDS]
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _spell_row(tokenizer: bytes):
    """Makes the body of a loop over rows, because the decoder spells one sentence at a time."""
    helper, types = writers().onnx.helper, writers().onnx.TensorProto
    nodes = [
        helper.make_node("Gather", [TOKEN_IDS, "row"], ["ids"], axis=0),
        helper.make_node("Cast", ["ids"], ["wide_ids"], to=types.INT64),
        helper.make_node(
            "SentencepieceDecoder",
            ["wide_ids", "no"],
            ["sentences"],
            domain=DOMAIN,
            model=tokenizer,
        ),
        helper.make_node("Squeeze", ["sentences"], ["sentence"]),
        helper.make_node("Identity", ["before"], ["after"]),
    ]
    inputs = [
        helper.make_tensor_value_info("row", types.INT64, []),
        helper.make_tensor_value_info("before", types.BOOL, []),
    ]
    outputs = [
        helper.make_tensor_value_info("after", types.BOOL, []),
        helper.make_tensor_value_info("sentence", types.STRING, []),
    ]
    return helper.make_graph(nodes, "spell_row", inputs, outputs)
