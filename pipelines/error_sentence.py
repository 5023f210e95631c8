"""Exceptions as single sentences for users."""

import os
import re

import tensorflow as tf


def sentence(error: BaseException) -> str:
    """Writes an exception as one line that a user can read."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]  # ml_collections wraps one exception in another.
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return where + error.strerror
    text = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
    if isinstance(error, tf.errors.OpError):
        text = error.message
    # Keras, AutoGraph and ml_collections put text around the sentence.
    text = re.split(r"Arguments received by|Other fields present", text)[0]
    text = re.sub(r"\x1b\[\d*m|Exception encountered when calling \S+\.", "", text)
    if "in user code:" in text:
        text = re.split(r"\n\s*\w+(?:Error|Exception): ", text)[-1]
    if isinstance(error, tf.errors.OpError):
        # A stack and graph nodes precede the message; the operation and the graph follow it.
        parts = re.split(r'<stack traces unavailable>\n|  File "[^\n]*\n\n', text)
        text = parts[-1].partition("\n")[0]
        text = re.sub(r"\{\{.*?\}\}|\[Op:\w*\].*", "", text)
        asserted = re.match(r"assertion failed: \[(.*?)\]|.* Summarized data: b'(.*)'", text)
        text = asserted[1] or asserted[2] if asserted else text
    return " ".join(text.split()) or type(error).__name__
