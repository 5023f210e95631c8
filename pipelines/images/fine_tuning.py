"""Fine-tuning: a model begins with the weights of another one, of other classes or image sizes."""

from collections.abc import Sequence

import keras


def copy_weights(
    source, target, with_heads: bool = True, origin: str = "the run of start.workdir"
) -> None:
    """Copies the weights of a model into another one of the same kind, in place.

    Learned positions are resized to the target's grid. A head for another number of classes keeps
    the target's weights, and random states do too.

    Args:
        source: built model of one of the families of `models.MODELS`.
        target: built model of the same family, name and sizes.
        with_heads: whether heads for as many classes are copied too.
        origin: what the source is, for errors.

    Raises:
        ValueError: when the models differ in more than their heads and grids; nothing has been
            copied then.
    """
    if type(source) is not type(target):
        raise ValueError(
            f"Expected {origin} to hold a {type(target).__name__}, received a "
            f"{type(source).__name__}."
        )
    source_weights, target_weights = _weights(source), _weights(target)
    table = getattr(getattr(target, "grid_positions", None), "table", None)
    pairs = []
    for path in {**target_weights, **source_weights}:
        variable, value = target_weights.get(path), source_weights.get(path)
        shapes = [None if v is None else tuple(v.shape) for v in (variable, value)]
        is_head = "head" in path.split("/")[1]
        if None not in shapes and (variable is table or (is_head and not with_heads)):
            continue
        if shapes[0] == shapes[1]:
            pairs.append((variable, value))
        elif not is_head:
            raise ValueError(
                f"Expected {origin} to have {path} of shape {shapes[0]}, received {shapes[1]}."
            )
    if table is not None:
        positions = source.grid_positions
        target.grid_positions.load_table(positions.table, positions.grid_size)
    for variable, value in pairs:
        variable.assign(value)


def keep_classes(source, target, labels: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """Copies the rows of heads that stand for classes of the same name, in place.

    A class is a label where both are the same without regard to case and to `_` for a space. A
    label of several names, such as `"tench, Tinca tinca"`, is called by the first one too, unless
    another label is.

    Args:
        source: built model whose heads are for `labels`.
        target: built model of the same kind whose heads are for `class_names`.
        labels: the classes of the source, in the order of its outputs.
        class_names: the classes of the target.

    Returns:
        List of the classes whose rows were copied.
    """
    firsts = [_plain(label.partition(",")[0]) for label in labels]
    rows = {first: row for row, first in enumerate(firsts) if firsts.count(first) == 1}
    rows |= {_plain(label): row for row, label in enumerate(labels)}
    pairs = [(rows[_plain(name)], i) for i, name in enumerate(class_names) if _plain(name) in rows]
    if not pairs:
        return []
    old, new = (list(numbers) for numbers in zip(*pairs, strict=True))
    for name in ("head", "distillation_head"):
        old_head, new_head = getattr(source, name, None), getattr(target, name, None)
        if old_head is None or new_head is None:
            continue
        for value, variable in zip(old_head.weights, new_head.weights, strict=True):
            array = keras.ops.convert_to_numpy(variable).copy()
            array[..., new] = keras.ops.convert_to_numpy(value)[..., old]
            variable.assign(array)
    return [class_names[index] for index in new]


def _plain(name):
    return " ".join(name.replace("_", " ").casefold().split())


def _weights(model):
    """Lists weights by names that are the same in two models, random states left out."""
    # Networks of Keras have layers whose names are counted on from one model to the next.
    trunk = getattr(model, "trunk", None)
    numbers = {id(v): number for number, v in enumerate(trunk.variables)} if trunk else {}
    return {
        f"{model.name}/trunk/{numbers[id(v)]}" if id(v) in numbers else v.path: v
        for v in model.variables
        if v.name != "seed_generator_state"
    }
