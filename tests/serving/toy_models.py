"""Small models to serve: half of a number and more, words, and colours of pictures."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

NUMBERS = tf.TensorSpec((None,), tf.float32, name="x")
TEXT = tf.TensorSpec((None,), tf.string, name="text")
FILES = tf.TensorSpec((None,), tf.string, name="image")
SIZE = (2, 3)  # of the pictures that the model sees
PIXELS = tf.TensorSpec((None, *SIZE, 3), tf.uint8, name="pixels")
COLORS = ("red", "green", "blue")
LONG = 11  # letters; a longer word takes its time


def half_plus(number):
    """Makes the model `x / 2 + number`, with a signature for each verb of the API."""
    module = tf.Module()
    module.half, module.number = tf.Variable(0.5), tf.Variable(float(number))

    def compute(x):
        return module.half * x + module.number

    @tf.function(input_signature=[NUMBERS])
    def predict(x):
        return {"y": compute(x)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def of_any_shape(x):
        return {"y": compute(x)}

    @tf.function(input_signature=[NUMBERS])
    def regress(x):
        return {"outputs": compute(x)[:, None]}

    @tf.function(input_signature=[NUMBERS])
    def classify(x):
        names = tf.fill((tf.size(x), 1), "")
        return {"class_names": names, "probabilities": compute(x)[:, None]}

    return module, {
        "serving_default": predict,
        "any_shape": of_any_shape,
        "tensorflow/serving/regress": regress,
        "classify_x_to_y": classify,
    }


def words():
    """Makes a model of words, some of whose signatures are slow or refuse a word."""
    module = tf.Module()

    @tf.function(input_signature=[TEXT])
    def shout(text):
        return {"loud": tf.strings.upper(text), "length": tf.strings.length(text)}

    @tf.function(input_signature=[TEXT])
    def whisper(text):
        return {"quiet": tf.strings.lower(text)}

    @tf.function(input_signature=[TEXT])
    def letters(text):
        return {"letters": tf.strings.bytes_split(text).to_tensor("")}

    @tf.function(input_signature=[TEXT])
    def ponder(text):
        """Counts for a while where a word is long."""
        longest = tf.reduce_max(tf.strings.length(text))
        rounds = tf.where(longest > LONG, 3001 * longest, 0)
        last = tf.while_loop(lambda i: i < rounds, lambda i: i + 1, [0])[0]
        with tf.control_dependencies([last]):
            return {"text": tf.identity(text)}

    @tf.function(input_signature=[TEXT])
    def judge(text):
        """Refuses all words of a batch that has a bad one."""
        bad = tf.reduce_any(text == "bad")
        with tf.control_dependencies([tf.debugging.Assert(~bad, ["Expected good words."])]):
            return {"text": tf.identity(text)}

    @tf.function(input_signature=[TEXT, tf.TensorSpec((None,), tf.int32, name="times")])
    def repeat(text, times):
        joined = tf.strings.reduce_join(tf.repeat(text[:, None], tf.reduce_max(times), 1), 1)
        return {"text": joined, "times": times}

    return module, {
        "serving_default": shout,
        "whisper": whisper,
        "letters": letters,
        "ponder": ponder,
        "judge": judge,
        "repeat": repeat,
    }


def colors():
    """Makes a model that says how red, green and blue a picture is."""
    module = tf.Module()

    @tf.function(input_signature=[FILES])
    def decode(image):
        def one(contents):
            pixels = tf.io.decode_image(contents, 3, expand_animations=False)
            return tf.cast(tf.image.resize(pixels, SIZE), tf.uint8)

        return {"pixels": tf.map_fn(one, image, fn_output_signature=tf.uint8)}

    @tf.function(input_signature=[PIXELS])
    def classify_pixels(pixels):
        shares = tf.reduce_mean(tf.cast(pixels, tf.float32), axis=(1, 2)) / 255
        best, order = tf.math.top_k(shares, len(COLORS))
        return {"class_names": tf.gather(COLORS, order), "probabilities": best}

    @tf.function(input_signature=[FILES])
    def classify(image):
        pixels = tf.ensure_shape(decode(image)["pixels"], PIXELS.shape)
        return classify_pixels(pixels)

    return module, {
        "serving_default": classify,
        "decode": decode,
        "serving_default_pixels": classify_pixels,
        "classify": classify,
    }


def save(model, folder):
    """Saves a model where a server looks for it: a folder, whose name is the version."""
    module, signatures = model
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def picture(color, size=(5, 7), kind="PNG"):
    """Encodes a picture of one colour."""
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), color, np.uint8)).save(file, kind)
    return file.getvalue()
