"""`RecurrentEncoder` and `RecurrentDecoder`: what reads a source, and what writes a target.

Letters: `B` batch, `S` source length, `T` target length, `R` decoded rows, `H` hidden_dim, `E` size
of a token's vector, `D` size of an annotation (`H`, or `2 H` of both directions), `W` of a state.
"""

import keras
from keras import ops

from kerasformer.layers.children import Composite, child_seed
from kerasformer.layers.loops import loop
from kerasformer.layers.mixers.alignment import (
    AdditiveAttention,
    MultiplicativeAttention,
    alignment_probabilities,
)

CELLS = {"gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}


class _Recurrent(Composite):
    """The base of encoder and decoder: the sizes, the kind of cell, and dropout."""

    def __init__(self, cell, num_layers, hidden_dim, bidirectional, dropout, seed, **kwargs):
        super().__init__(**kwargs)
        self.cell = cell
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.seed = seed
        self.supports_masking = True
        self._annotation_dim = hidden_dim * (1 + bidirectional)
        self.dropout_layer = keras.layers.Dropout(
            dropout,
            seed=child_seed(seed, "dropout_layer"),
            name="dropout_layer",
            dtype=self.dtype_policy,
        )

    def make_cells(self, name):
        """Makes a cell for each layer. A GRU's reset gate stands before the matrix, as Cho's."""
        options = {"reset_after": False} if self.cell == "gru" else {}
        return [
            CELLS[self.cell](
                self.hidden_dim, name=f"{name}_{index}", dtype=self.dtype_policy, **options
            )
            for index in range(self.num_layers)
        ]

    # Traced, because there are several outputs.
    compute_output_spec = keras.Operation.compute_output_spec

    def get_config(self):
        return {
            **super().get_config(),
            "cell": self.cell,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class RecurrentEncoder(_Recurrent):
    """Reads a sequence forwards, or in both directions, by a stack of recurrent layers.

    Args:
        cell, num_layers, hidden_dim, bidirectional, reverse_source, dropout, seed: as in
            `Seq2SeqRNN`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, S, E)`.
        mask: boolean tensor `(B, S)`, the real positions, or `None`.

    Returns:
        Tuple of the annotations `(B, S, D)` and, of each layer, the last state `(B, H)`, or output
        and cell state of an LSTM. Of two directions it is that of the backward one.

    Masking: padding, on either side of the sequence, leaves the states as they are.

    Example:

    >>> encoder = RecurrentEncoder("gru", num_layers=1, hidden_dim=4)
    >>> [tuple(x.shape) for x in encoder(ops.ones((2, 5, 3)))]
    [(2, 5, 8), (2, 4)]
    """

    def __init__(
        self,
        cell,
        num_layers,
        hidden_dim,
        bidirectional=True,
        reverse_source=False,
        dropout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(cell, num_layers, hidden_dim, bidirectional, dropout, seed, **kwargs)
        self.reverse_source = reverse_source
        self.forwards = self.make_cells("forward")
        self.backwards = self.make_cells("backward") if bidirectional else []

    def build(self, inputs_shape):
        width = inputs_shape[-1]
        for layer in range(self.num_layers):
            for cells in (self.forwards, self.backwards):
                for cell in cells[layer : layer + 1]:
                    cell.build((None, width))
            width = self._annotation_dim

    def call(self, inputs, *, mask=None, training=None):
        x, last_states = inputs, []
        mask = ops.ones_like(x[..., 0], dtype="bool") if mask is None else mask
        is_real = ops.cast(mask, self.compute_dtype)[..., None]
        if self.reverse_source:
            x, is_real = ops.flip(x, axis=1), ops.flip(is_real, axis=1)
        for layer, cell in enumerate(self.forwards):
            if layer:
                x = self.dropout_layer(x, training=training)
            outputs, states = self._read(cell, x, is_real)
            if self.bidirectional:
                # Its states go on to the decoder: the beginning of the source is read last.
                backward, states = self._read(self.backwards[layer], x, is_real, go_backwards=True)
                outputs = ops.concatenate([outputs, backward], axis=-1)
            x = outputs
            last_states += states
        return (ops.flip(x, axis=1) if self.reverse_source else x, *last_states)

    def _read(self, cell, x, is_real, go_backwards=False):
        """Returns outputs `(B, S, H)` and last states; padding leaves the states as they are."""

        def step(x, states):
            real = x[:, -1:]
            _, new_states = cell(x[:, :-1], states)
            pairs = zip(new_states, states, strict=True)
            states = [real * new + (1.0 - real) * old for new, old in pairs]
            return states[0], states

        states = cell.get_initial_state(batch_size=ops.shape(x)[0])
        # The mask is one more number of each position, because ONNX has no loop over booleans.
        x = ops.concatenate([x, is_real], axis=-1)
        return loop(step, x, states, self.hidden_dim, self.dtype_policy, go_backwards)

    def compute_mask(self, inputs, previous_mask=None):
        return None  # Whoever looks at the annotations is given it by hand.

    def get_config(self):
        return {**super().get_config(), "reverse_source": self.reverse_source}


@keras.saving.register_keras_serializable(package="kerasformer")
class RecurrentDecoder(_Recurrent):
    """Turns target vectors and a read source into vectors that predict the next tokens.

    With `attention="additive"` it is the decoder of Bahdanau et al.: the state before a token looks
    at the source, and what it sees is read with the token. With another attention it is that of
    Luong et al.: the state behind the token looks. With `None` nothing looks.

    Args:
        cell, num_layers, hidden_dim, output_dim, bidirectional, attention, input_feeding, dropout,
            seed: as in `Seq2SeqRNN`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, E)`.
        encoded: tuple, what `RecurrentEncoder` returns.
        context_mask: boolean tensor `(B, S)`, the real positions of the source, or `None`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, output_dim)`; with `return_attention_scores=True` a tuple of it and the
        probabilities `(B, T, S)`.

    Example:

    >>> decoder = RecurrentDecoder("gru", num_layers=1, hidden_dim=4, output_dim=3)
    >>> encoded = RecurrentEncoder("gru", num_layers=1, hidden_dim=4)(ops.ones((2, 5, 3)))
    >>> tuple(decoder(ops.ones((2, 7, 3)), encoded).shape)
    (2, 7, 3)
    """

    def __init__(
        self,
        cell,
        num_layers,
        hidden_dim,
        output_dim,
        bidirectional=True,
        attention="additive",
        input_feeding=False,
        dropout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(cell, num_layers, hidden_dim, bidirectional, dropout, seed, **kwargs)
        self.output_dim = output_dim
        self.attention = attention
        self.input_feeding = input_feeding
        self._looks_first = attention == "additive"
        self._fed_dim = output_dim if input_feeding else 0
        if self._looks_first:
            self._fed_dim = self._annotation_dim
        self._states_per_layer = 2 if cell == "lstm" else 1
        self._state_sizes = [hidden_dim] * (num_layers * self._states_per_layer)
        self.cells = self.make_cells("cell")
        # One direction hands on its states as they are; the backward one alone has not read all.
        self.bridge_denses = [
            self._dense(hidden_dim, f"bridge_dense_{index}", "tanh")
            for index in range(len(self._state_sizes) * bidirectional)
        ]
        if input_feeding:
            self._state_sizes.append(output_dim)
        if self._looks_first:
            self.output_dense = self._dense(2 * output_dim, "output_dense", None)
        else:
            self.output_dense = self._dense(output_dim, "output_dense", "tanh")
        options = {"name": "attention_layer", "dtype": self.dtype_policy}
        self.attention_layer = None
        if self._looks_first:
            self.attention_layer = AdditiveAttention(hidden_dim, **options)
        elif attention is not None:
            self.attention_layer = MultiplicativeAttention(hidden_dim, attention, **options)

    def _dense(self, units, name, activation):
        return keras.layers.Dense(units, activation, name=name, dtype=self.dtype_policy)

    def build(self, inputs_shape, encoded_shape=None):
        width = inputs_shape[-1]
        joined = self.hidden_dim + (self._annotation_dim if self.attention_layer else 0)
        self.output_dense.build((None, joined + (width if self._looks_first else 0)))
        if self.attention_layer:
            query_shape = (None, None, self.hidden_dim)
            self.attention_layer.build(query_shape, (None, None, self._annotation_dim))
        width += self._fed_dim
        for cell in self.cells:
            cell.build((None, width))
            width = self.hidden_dim
        for dense in self.bridge_denses:
            dense.build((None, self.hidden_dim))

    def call(
        self, inputs, encoded, *, context_mask=None, training=None, return_attention_scores=False
    ):
        source = (self._keys(encoded[0]), encoded[0], context_mask)
        state = self._first_state(encoded[1:])
        if self._fed_dim:
            fed, looking = self._loop(inputs, state, source, training)
        else:
            fed, looking = None, self._run(inputs, state, training)
        outputs = self._outputs(inputs, fed, looking, source)
        return (outputs, self._scores(looking, source)) if return_attention_scores else outputs

    def _keys(self, annotations):
        if self.attention_layer is None:
            return annotations[..., :0]
        return self.attention_layer.project_context(annotations)

    def _first_state(self, encoder_states):
        """Returns all states before the first token side by side, `(B, W)`."""
        states = list(encoder_states)
        if self.bridge_denses:
            states = [dense(x) for dense, x in zip(self.bridge_denses, states, strict=True)]
        if self.input_feeding:
            states.append(ops.zeros((ops.shape(states[0])[0], self.output_dim), states[0].dtype))
        return ops.concatenate(states, axis=-1)

    def _split(self, state):
        ends = [sum(self._state_sizes[:i]) for i in range(1, len(self._state_sizes))]
        return ops.split(state, ends, axis=-1) if ends else [state]

    def _run(self, x, state, training):
        """Returns the top states `(B, T, H)` where nothing is fed back, layer by layer."""
        states, count = self._split(state), self._states_per_layer
        for layer, cell in enumerate(self.cells):
            if layer:
                x = self.dropout_layer(x, training=training)
            first = states[layer * count : (layer + 1) * count]
            x, _ = loop(cell, x, first, self.hidden_dim, self.dtype_policy)
        return x

    def _loop(self, x, state, source, training):
        """Returns what is fed, and the states that look `(B, T, H)`, token by token."""
        width, above = x.shape[-1], (self.num_layers - 1) * self.hidden_dim
        is_dropping = bool(training and self.dropout and above)
        if is_dropping:
            # Drawn before the loop, inside which a seed generator cannot move on.
            ones = ops.repeat(ops.ones_like(x[..., :1]), above, axis=-1)
            x = ops.concatenate([x, self.dropout_layer(ones, training=True)], axis=-1)

        def step(x, states):
            noise = x[:, width:] if is_dropping else None
            fed, looking, state = self._advance(x[:, :width], states[0], source, noise)
            return ops.concatenate([fed, looking], axis=-1), [state]

        output_dim = self._fed_dim + self.hidden_dim
        outputs, _ = loop(step, x, [state], output_dim, self.dtype_policy)
        return ops.split(outputs, [self._fed_dim], axis=-1)

    def _advance(self, x, state, source, noise=None):
        """Reads a token of each row.

        Args:
            x: float tensor `(R, E)`.
            state: float tensor `(R, W)`.
            source: tuple of keys, annotations and mask.
            noise: float tensor `(R, (num_layers - 1) H)`, factors of what goes up, or `None`.

        Returns:
            Tuple of what is fed, to this step or to the next, or `None`; the state `(R, H)` that
            looks at the source; and the new state `(R, W)`.
        """
        states, new_states, count = self._split(state), [], self._states_per_layer
        fed = looking = None
        if self._looks_first:
            looking = states[-count]
            fed = self._look(looking[:, None], source)[:, 0]
            x = ops.concatenate([x, fed], axis=-1)
        elif self.input_feeding:
            x = ops.concatenate([x, states[-1]], axis=-1)
        for layer, cell in enumerate(self.cells):
            if layer and noise is not None:
                x = x * noise[:, (layer - 1) * self.hidden_dim : layer * self.hidden_dim]
            x, layer_states = cell(x, states[layer * count : (layer + 1) * count])
            new_states += layer_states
        if not self._looks_first:
            looking = x
        if self.input_feeding:
            fed = self._attentional(x[:, None], source)[:, 0]
            new_states.append(fed)
        return fed, looking, ops.concatenate(new_states, axis=-1)

    def _look(self, looking, source):
        """Returns the context `(R, T, D)` of states `(R, T, H)`."""
        keys, annotations, mask = source
        batch, (rows, length) = ops.shape(keys)[0], ops.shape(looking)[:2]
        # The beams of a sentence look at one source.
        query = ops.reshape(looking, (batch, rows // batch * length, self.hidden_dim))
        seen, _ = self.attention_layer.attend(query, keys, annotations, mask)
        return ops.reshape(seen, (rows, length, self._annotation_dim))

    def _attentional(self, looking, source):
        """Returns Luong's `tanh(W [context; state])`; without attention, `tanh(W state)`."""
        if self.attention_layer is not None:
            looking = ops.concatenate([self._look(looking, source), looking], axis=-1)
        return self.output_dense(looking)

    def _outputs(self, inputs, fed, looking, source):
        """Returns the outputs `(R, T, output_dim)` from what `_advance` returned of each token."""
        if self._looks_first:
            # The larger of each two of `U s + V y + C c` (Goodfellow et al., 2013).
            x = self.output_dense(ops.concatenate([fed, looking, inputs], axis=-1))
            return ops.max(ops.reshape(x, (*ops.shape(x)[:-1], self.output_dim, 2)), axis=-1)
        return self._attentional(looking, source) if fed is None else fed

    def _scores(self, looking, source):
        keys, annotations, mask = source
        if self.attention_layer is not None:
            return self.attention_layer.attend(looking, keys, annotations, mask)[1]
        # All that is known of the source is one state, no more of one word than of another.
        alike = ops.matmul(looking[..., :1], ops.swapaxes(annotations[..., :1], 1, 2))
        return ops.cast(alignment_probabilities(0.0 * alike, mask), self.compute_dtype)

    def project_context(self, encoded):
        """Computes what all steps need of the source, once.

        Args:
            encoded: tuple, what `RecurrentEncoder` returns.

        Returns:
            List of one tuple of one float tensor `(B, 1, S, ...)`: keys and annotations, laid out
            as those of a `Decoder` of one block with one head, so that who stores or exports the
            one does it with the other.
        """
        joined = ops.concatenate([self._keys(encoded[0]), encoded[0]], axis=-1)
        return [(joined[:, None],)]

    def init_cache(self, encoded):
        """Makes the state before the first token.

        Args:
            encoded: tuple, what `RecurrentEncoder` returns.

        Returns:
            List of one tuple of one float tensor `(B, 1, 1, W)`, laid out like the context.
        """
        return [(self._first_state(encoded[1:])[:, None, None],)]

    def grow_cache(self, cache):
        """Returns the cache as it is: one state holds all tokens."""
        return cache

    def step(self, inputs, cache, context_cache, context_mask=None):
        """Reads the next token of each row.

        Args:
            inputs: float tensor `(R, 1, E)`, `R` a multiple of `B`, batch-major.
            cache: list from `init_cache` or from the step before.
            context_cache: list from `project_context`.
            context_mask: boolean tensor `(B, S)` or `None`.

        Returns:
            Tuple of the outputs `(R, 1, output_dim)` and the new cache.
        """
        ((state,),), ((joined,),) = cache, context_cache
        ends = [joined.shape[-1] - self._annotation_dim]
        source = (*ops.split(joined[:, 0], ends, axis=-1), context_mask)
        fed, looking, state = self._advance(inputs[:, 0], state[:, 0, 0], source)
        fed = None if fed is None else fed[:, None]
        outputs = self._outputs(inputs, fed, looking[:, None], source)
        return outputs, [(state[:, None, None],)]

    def get_config(self):
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "attention": self.attention,
            "input_feeding": self.input_feeding,
        }
