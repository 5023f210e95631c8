"""An image captioner of the layers alone: what reads a picture and what writes a text fit together.

A picture shows one to three coloured squares; its caption names the colours, row by row.
"""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.decoding import greedy_search
from kerasformer.layers import (
    Decoder,
    Encoder,
    LearnedGridPositions,
    LearnedPositionEmbedding,
    PatchEmbedding,
    TokenEmbedding,
)

pytestmark = pytest.mark.integration

COLOURS = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
START, END, FIRST = 1, 2, 3  # token ids; the colours begin at FIRST
LONGEST = 4  # three colours and the end
GRID, PATCH = 3, 2


def draw(count, seed):
    """Draws pictures `(n, 6, 6, 3)` and captions `(n, 4)` that end in END and are padded by 0."""
    random = np.random.default_rng(seed)
    pictures = random.normal(0, 0.1, (count, GRID, PATCH, GRID, PATCH, 3)).astype("float32")
    captions = np.zeros((count, LONGEST), "int32")
    for picture, caption in zip(pictures, captions, strict=True):
        places = np.sort(random.choice(GRID**2, random.integers(1, LONGEST), replace=False))
        colours = random.integers(0, len(COLOURS), len(places))
        for place, colour in zip(places, colours, strict=True):
            picture[place // GRID, :, place % GRID] += COLOURS[colour]
        caption[: len(places)] = FIRST + colours
        caption[len(places)] = END
    return pictures.reshape(count, GRID * PATCH, GRID * PATCH, 3), captions


class Captioner(keras.Model):
    """Reads a picture by patches, and writes a caption token by token."""

    def __init__(self):
        super().__init__()
        sizes = {"num_layers": 1, "hidden_dim": 32, "num_heads": 4, "intermediate_dim": 64}
        self.patches = PatchEmbedding(32, PATCH)
        self.places = LearnedGridPositions((GRID, GRID))
        self.encoder = Encoder(**sizes)
        self.tokens = TokenEmbedding(FIRST + len(COLOURS), 32)
        self.positions = LearnedPositionEmbedding(LONGEST)
        self.decoder = Decoder(**sizes)

    def read(self, pictures):
        return self.encoder(self.places(self.patches(pictures)))

    def call(self, inputs):
        x = self.positions(self.tokens(inputs["tokens"]))
        return self.tokens(self.decoder(x, self.read(inputs["pictures"])), reverse=True)

    def write(self, pictures):
        """Returns the token ids `(n, LONGEST)` of the most probable caption, step by step."""
        context = self.decoder.project_context(self.read(pictures))
        count = len(pictures)
        state = (self.decoder.init_cache(count, LONGEST), ops.zeros((count,), "int32"))

        def step(token_ids, state, context):
            cache, positions = state
            x = self.positions(self.tokens(token_ids[:, None]), positions=positions[:, None])
            x, cache = self.decoder.step(x, cache, positions, context)
            return self.tokens(x, reverse=True)[:, 0], (cache, positions + 1)

        starts = ops.full((count,), START, "int32")
        found = greedy_search(step, state, context, starts, LONGEST, end_id=END)
        return np.array(found.token_ids)[:, 0]


@pytest.fixture(scope="module")
def captioner():
    keras.utils.set_random_seed(5)
    pictures, captions = draw(3000, seed=1)
    tokens = np.concatenate([np.full((3000, 1), START), captions[:, :-1]], axis=1)
    model = Captioner()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(0.01), loss)
    inputs = {"pictures": pictures, "tokens": tokens.astype("int32")}
    model.fit(inputs, captions, batch_size=64, epochs=10, verbose=0)
    return model


def test_it_names_the_colours_of_pictures_that_it_never_saw(captioner):
    pictures, captions = draw(300, seed=2)
    right = np.all(captioner.write(pictures) == captions, axis=1)
    assert right.mean() > 0.9


def test_other_pictures_get_other_captions(captioner):
    pictures, _ = draw(2, seed=3)
    first, second = captioner.write(pictures), captioner.write(pictures[::-1])
    assert np.array_equal(first, second[::-1]) and not np.array_equal(first[0], first[1])
