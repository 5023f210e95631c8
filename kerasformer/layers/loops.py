"""A loop over the positions of a sequence, for what must read one after the other.

Letters: `B` batch, `T` length, `E` size of the inputs.
"""

import keras
from keras import ops


def loop(step, inputs, states, output_dim, dtype, go_backwards=False):
    """Applies a step to each position of a sequence, by the loop of Keras.

    It is never cuDNN's, which refuses padding on the left, and would not let a model that was
    exported beside a GPU run without one.

    Args:
        step: function `(x, states) -> (outputs, states)` of one position: `x` `(B, E)`, the outputs
            `(B, output_dim)`, the states a list of float tensors `(B, ...)`.
        inputs: float tensor `(B, T, E)`.
        states: list of float tensors, what the first step is given.
        output_dim: int.
        dtype: str, dtype policy or `None`. Dtype of the computation.
        go_backwards: bool. Whether to begin at the end.

    Returns:
        Tuple of the outputs `(B, T, output_dim)`, in the order of the inputs, and the last states.

    Example:

    >>> def add(x, states):
    ...     return x + states[0], [x + states[0]]
    >>> outputs, states = loop(add, ops.ones((1, 3, 1)), [ops.zeros((1, 1))], 1, "float32")
    >>> outputs.numpy().ravel().tolist(), states[0].numpy().item()
    ([1.0, 2.0, 3.0], 3.0)
    """
    rnn = keras.layers.RNN(
        _Cell(step, output_dim, states, keras.dtype_policies.get(dtype).compute_dtype),
        return_sequences=True,
        return_state=True,
        go_backwards=go_backwards,
        dtype=dtype,
    )
    outputs, *states = rnn(inputs, initial_state=states)
    return ops.flip(outputs, axis=1) if go_backwards else outputs, states


class _Cell:
    """A function as `keras.layers.RNN` calls it."""

    def __init__(self, step, output_size, states, compute_dtype):
        self.call, self.output_size, self.compute_dtype = step, output_size, compute_dtype
        self.state_size = [state.shape[-1] for state in states]

    def __call__(self, inputs, states):
        return self.call(inputs, states)
