"""Small untrained modules such as the pipelines export, for the tests of what shows them."""

import keras
import ml_collections
import tensorflow as tf

from kerasformer.models import Seq2SeqTransformer, VisionTransformer
from kerasformer.tokenizers import SentencePieceTokenizer, train_sentencepiece
from pipelines.tasks.classification.classifier import Classifier
from pipelines.tasks.translation.decode import DEFAULTS
from pipelines.tasks.translation.translator import Translator

LINES = ["The boy sees a dog.", "A girl washes cows.", "Der Junge sieht.", "Ein Hund wäscht Kühe."]
CLASSES = ["cat", "dog & <b>pup</b>", "wug"]
HYPOTHESES = 3
LAYERS, HEADS, GRID = 2, 3, (4, 5)


def make_translator(max_source_length=127):
    keras.utils.set_random_seed(7)
    tokenizer = SentencePieceTokenizer(train_sentencepiece(LINES * 5, 293))
    model = Seq2SeqTransformer(293, 1, 12, 3, 13)
    model.build()
    decode = ml_collections.ConfigDict(
        {
            **DEFAULTS,
            "max_source_length": max_source_length,
            "max_ratio": 1.0,
            "max_extra": 3,
            "beam_size": HYPOTHESES,
        }
    )
    return Translator(model, tokenizer, decode)


def make_classifier():
    keras.utils.set_random_seed(11)
    model = VisionTransformer((8, 10), LAYERS, 12, HEADS, 13, len(CLASSES), patch_size=2)
    model.build((None, 8, 10, 3))
    for variable in model.trainable_variables:  # The head starts at zero, and answers nothing.
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.3))
    described = {"class_names": CLASSES, "mean": [99.0] * 3, "deviation": [53.0] * 3, "channels": 3}
    return Classifier(model, described, (8, 10), crop=1.0)


def save(module, folder):
    """Writes the first version below a folder, and returns the folder."""
    tf.saved_model.save(module, str(folder / "1"), signatures=module.signatures())
    return folder
