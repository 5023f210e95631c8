"""What stays the same in a loop of an ONNX model, moved out of it.

TensorFlow hands each weight that a loop reads through all of its turns. In ONNX the body of a loop
sees the values around it, so that such a weight can stay where it is: ONNX Runtime then need not
copy it in each turn, and its quantisation finds it.
"""


def hoist_constants(graph) -> None:
    """Lets the bodies of loops read what they never change from the graph around them.

    Args:
        graph: `onnx.GraphProto`, which is changed, bodies of loops in it too.
    """
    for node in graph.node:
        for body in bodies(node):
            hoist_constants(body)
            if node.op_type == "Loop":
                _hoist(graph, node, body)
    _drop_identities(graph)


def bodies(node) -> list:
    """Returns the graphs in an ONNX node: the body of a loop, or both branches of a condition."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _hoist(graph, loop, body) -> None:
    """Takes what a body gives on as it came from the variables of its loop."""
    produced = {node.output[0]: node for node in body.node if node.op_type == "Identity"}
    # Before the variables, a loop has a number of turns and a condition, and a body gives on one.
    for index in reversed(range(len(body.input) - 2)):
        name, given = body.input[index + 2].name, body.output[index + 1].name
        while given in produced:
            given = produced[given].input[0]
        if given == name:
            outer, result = loop.input[index + 2], loop.output[index]
            if result in {output.name for output in graph.output}:
                continue
            del body.input[index + 2], body.output[index + 1]
            del loop.input[index + 2], loop.output[index]
            rename(body, {name: outer})
            rename(graph, {result: outer})


def _drop_identities(graph) -> None:
    """Removes nodes that only give a value another name."""
    ends = {output.name for output in graph.output}
    kept, names = [], {}
    for node in graph.node:
        if node.op_type == "Identity" and node.output[0] not in ends:
            names[node.output[0]] = names.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    if names:
        del graph.node[:]
        graph.node.extend(kept)
        rename(graph, names)


def rename(graph, names) -> None:
    """Renames what the nodes of a graph, and of the graphs in it, read."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        for body in bodies(node):
            rename(body, names)
