"""Saves the stored Marian model as we write it, and translates with it by our beam search.

    python tests/peers/save_marian.py FOLDER

`make_marian.py --check FOLDER` compares both with transformers.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from kerasformer import decoding, interop
from kerasformer.interop import huggingface
from kerasformer.interop.marian_tokenizer import load_marian_tokenizers

STORED = pathlib.Path(__file__).parent.parent / "interop" / "folders" / "marian"
MAX_LENGTH = 60

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    model, description = interop.load(STORED)
    huggingface.save(model, folder, description)
    texts = json.loads((STORED / "tokens.json").read_text(encoding="utf-8"))["texts"]
    source, _ = load_marian_tokenizers(folder)
    ids = tf.ragged.constant([[*ids, source.end_id] for ids in source.encode(texts)])
    found = decoding.beam_search(
        *model.start_decoding(ids.to_tensor(source.pad_id), MAX_LENGTH),
        tf.fill((len(texts),), model.start_id),
        MAX_LENGTH,
        beam_size=4,
        num_hypotheses=4,
        length_penalty="length",
        alpha=1.0,
        **model.special_ids,
    )
    np.savez(
        folder / "translations.npz",
        token_ids=np.reshape(found.token_ids, (-1, MAX_LENGTH)),
        scores=np.reshape(found.scores, -1),
    )
