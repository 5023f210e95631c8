"""What is exported of a translator, and how it is scored."""

import re
from collections.abc import Callable

import keras
import ml_collections
import tensorflow as tf
from tqdm import tqdm

from kerasformer.interop.marian_tokenizer import MarianTokenizer
from pipelines.tasks.translation.decode import described
from pipelines.tasks.translation.translator import Translator
from pipelines.tasks.translation.vocabulary import load_tokenizers
from pipelines.text.languages import bleu_tokenizer, language_name, read_languages
from pipelines.text.pairs import read_pairs
from pipelines.text.score_pictures import draw_by_length
from pipelines.text.scores import bleu, by_length, score, sentence_chrf, table
from pipelines.training.task import Evaluation

TABLES = ("tsv", "csv")  # formats of one file with both sentences, and the endings of the files
UNKNOWN_LANGUAGES = "The config names none (`data.languages`)."
USE = """In the folder of this file, with `pip install tensorflow tensorflow-text`:

```python
import tensorflow as tf
import tensorflow_text  # It registers the tokenizer's operations.

model = tf.saved_model.load(".")
answer = model.signatures["translate"](text=tf.constant([{sentence!r}]))
print(answer["translation"][0].numpy().decode())
```"""


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
    greedy.decode.update(beam_size=1, num_hypotheses=1, temperature=0.0)
    sources, references = zip(*read_pairs(config.data, "validation"), strict=True)
    module = serving(model, greedy, workdir)

    def score_validation():
        hypotheses = translate(module, list(sources), greedy)
        score = bleu(hypotheses, references, config.data.is_tokenized, tokenizer).score
        return {"bleu": score}

    return score_validation


def translate(module: tf.Module, sentences: list[str], config) -> list[str]:
    """Returns the best translation of each sentence: of `answers`, the texts alone."""
    return [answer["prediction"] for answer in answers(module, sentences, config)]


def answers(module: tf.Module, sentences: list[str], config, is_shown: bool = False) -> list[dict]:
    """Translates sentences through the `translate` signature, batched by length.

    Args:
        module: what `serving` returns.
        sentences: list of str.
        config: the resolved config, for `decode.batch_size`.
        is_shown: bool. Whether a bar shows the progress on a terminal.

    Returns:
        List of a dict for each sentence, in their order: the `prediction`, its `score` (as
        `Translator.translate` gives it) and whether it, or the sentence, was `truncated`.
    """
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    results: list[dict] = [{}] * len(sentences)
    starts = range(0, len(order), config.decode.batch_size)
    # On a terminal alone, which `None` says.
    for first in tqdm(starts, disable=None if is_shown else True, leave=False, unit="batch"):
        indices = order[first : first + config.decode.batch_size]
        batch = tf.constant([sentences[index] for index in indices])
        outputs = {name: output.numpy() for name, output in module.translate(batch).items()}
        for row, index in enumerate(indices):
            results[index] = {
                "prediction": outputs["translation"][row].decode("utf-8"),
                "score": round(float(outputs["score"][row]), 4),
                "truncated": bool(outputs["truncated"][row]),
            }
    return results


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


def own_test(config: ml_collections.ConfigDict, path: str) -> dict:
    """Returns the keys that read a pair of files `a.en,a.de`, or a `.tsv`, as the test set."""
    names = path.split(",")
    if len(names) == 2 and all(names):
        return {"format": "files", "folder": "", "test": names}
    for ending in TABLES:
        if re.fullmatch(rf".*\.{ending}(\.\w+)?", path, re.IGNORECASE):  # It may be packed.
            is_table = config.data.format in TABLES
            columns = config.data.columns if is_table else (0, 1)
            return {"format": ending, "folder": "", "test": path, "columns": columns}
    raise ValueError(
        "Expected two text files with a comma between them, or a .tsv or .csv, received "
        f"--test={path}."
    )


def card(config: ml_collections.ConfigDict, workdir: str) -> dict[str, str]:
    """Writes the task's part of the model card: languages, input, output, and code."""
    tokenizer, decode = config.tokenizer, config.decode
    names = [language_name(code) for code in read_languages(config.data)]
    tokenizers = load_tokenizers(workdir)
    sizes = [f"{each.vocabulary_size:,} pieces" for each in tokenizers]
    pieces = sizes[0] if tokenizers.are_shared else "{} and, of the target, {}".format(*sizes)
    splits = f"{tokenizer.kind}, {pieces}, normalization {tokenizer.normalization}"
    splits += ", in lower case" if tokenizer.lowercase else ""
    if isinstance(tokenizers.source, MarianTokenizer):
        splits = f"one model a language, {pieces} of both, as its Marian model has them"
    sentence, _ = read_pairs(config.data, "validation")[0]
    words = "as it is written"
    if config.data.is_tokenized:
        words = "with spaces between the words as in the training data"
    return {
        "Languages": "From {} to {}.".format(*names) if names else UNKNOWN_LANGUAGES,
        "Input": (
            f"A sentence of UTF-8 text {words}. SentencePiece ({splits}) splits it into tokens, "
            f"of which {decode.max_source_length - 1:,} are read."
        ),
        "Output": described(decode),
        "Use": USE.format(sentence=sentence),
    }


def evaluate(module: Translator, config: ml_collections.ConfigDict, split: str) -> Evaluation:
    """Translates a split and scores it.

    Args:
        module: what `serving` or `exported` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Scores, a table of worst and best sentences, a picture of BLEU against the length of the
        source, and for each sentence what was read, the reference, what `answers` returns and the
        chrF.
    """
    sources, references = zip(*read_pairs(config.data, split), strict=True)
    results = answers(module, list(sources), config, is_shown=True)
    hypotheses = [result["prediction"] for result in results]
    tokenizer = bleu_tokenizer(config.data)
    scores = score(hypotheses, references, config.data.is_tokenized, tokenizer=tokenizer)
    scores["truncated"] = sum(result["truncated"] for result in results)
    texts = sources, hypotheses, references
    lengths = scores["bleu_by_length"] = by_length(*texts, config.data.is_tokenized, tokenizer)
    quality = sentence_chrf(hypotheses, references)
    rows = zip(sources, references, results, quality, strict=True)
    predictions = [
        {"source": source, "reference": reference, **result, "chrf": round(chrf, 2)}
        for source, reference, result, chrf in rows
    ]
    return Evaluation(scores, table(*texts), {"length": draw_by_length({"": lengths})}, predictions)
