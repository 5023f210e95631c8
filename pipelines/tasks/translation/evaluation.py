"""What is exported of a translator, and how it is scored."""

from collections.abc import Callable

import keras
import ml_collections
import tensorflow as tf

from pipelines.tasks.translation.translator import Translator
from pipelines.tasks.translation.vocabulary import load_tokenizers
from pipelines.text.languages import bleu_tokenizer
from pipelines.text.pairs import read_pairs
from pipelines.text.scores import bleu, score, table


def validation_scorer(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str
) -> Callable[[], dict[str, float]]:
    """Makes the function that scores what `metrics` cannot, by a whole search.

    Returns:
        Function that translates the validation set greedily with the weights that the model has
        by then, and returns its `bleu`.
    """
    tokenizer = bleu_tokenizer(config.data)
    greedy = config.copy_and_resolve_references()
    greedy.decode.beam_size = greedy.decode.num_hypotheses = 1
    sources, references = zip(*read_pairs(config.data, "validation"), strict=True)
    module = serving(model, greedy, workdir)

    def score_validation():
        hypotheses = translate(module, list(sources), greedy)
        score = bleu(hypotheses, references, config.data.is_tokenized, tokenizer).score
        return {"bleu": score}

    return score_validation


def translate(module: tf.Module, sentences: list[str], config) -> list[str]:
    """Translates sentences through the `translate` signature, batched by length.

    Args:
        module: what `serving` returns.
        sentences: list of str.
        config: the resolved config, for `decode.batch_size`.

    Returns:
        List of the best translation of each sentence, in the order of the sentences.
    """
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    translations = [""] * len(sentences)
    for first in range(0, len(order), config.decode.batch_size):
        indices = order[first : first + config.decode.batch_size]
        batch = tf.constant([sentences[index] for index in indices])
        texts = module.translate(batch)["translation"].numpy()
        for index, text in zip(indices, texts, strict=True):
            translations[index] = text.decode("utf-8")
    return translations


def serving(model: keras.Model, config: ml_collections.ConfigDict, workdir: str) -> Translator:
    """Makes the `tf.Module` whose signatures are exported."""
    source, target = load_tokenizers(workdir)
    return Translator(model, source, config.decode, target)


def example(module: Translator, config: ml_collections.ConfigDict) -> str:
    """Runs one example through the module, for the model card."""
    source, reference = read_pairs(config.data, "validation")[0]
    outputs = module.translate(tf.constant([source]))
    return (
        f"- input: {source}\n- output: {outputs['translation'][0].numpy().decode()}\n"
        f"- reference: {reference}\n"
    )


def evaluate(module: Translator, config: ml_collections.ConfigDict, split: str):
    """Translates a split and scores it.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Tuple of the scores (a dict that JSON can hold), a table of worst and best sentences, and
        pictures by name: none.
    """
    pairs = read_pairs(config.data, split)
    sources, references = zip(*pairs, strict=True)
    hypotheses = translate(module, list(sources), config)
    tokenizer = bleu_tokenizer(config.data)
    scores = score(hypotheses, references, config.data.is_tokenized, tokenizer=tokenizer)
    return scores, table(sources, hypotheses, references), {}
