"""Fine-tuning: a model begins with the weights of another one, of other classes or image sizes."""


def copy_weights(source, target, with_heads: bool = True) -> None:
    """Copies the weights of a model into another one of the same kind, in place.

    Learned positions are resized to the target's grid. A head for another number of classes keeps
    the target's weights, and random states do too.

    Args:
        source: built model of one of the families of `models.MODELS`.
        target: built model of the same family, name and sizes.
        with_heads: whether heads for as many classes are copied too.

    Raises:
        ValueError: when the models differ in more than their heads and grids; nothing has been
            copied then.
    """
    if type(source) is not type(target):
        raise ValueError(
            f"Expected the run of start.workdir to hold a {type(target).__name__}, received a "
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
                f"Expected the run of start.workdir to have {path} of shape {shapes[0]}, "
                f"received {shapes[1]}."
            )
    if table is not None:
        positions = source.grid_positions
        target.grid_positions.load_table(positions.table, positions.grid_size)
    for variable, value in pairs:
        variable.assign(value)


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
