"""What is written for CTranslate2: the model, the tokenizers and the search, checked as a whole."""

import json
from pathlib import Path

import ml_collections

from kerasformer.interop.agreement import largest_difference, traced
from kerasformer.interop.ctranslate2 import export_ctranslate2
from kerasformer.interop.ctranslate2_translator import SEARCH, TOKENIZERS, CTranslate2Translator
from kerasformer.tokenizers import UNKNOWN_ID, SentencePieceTokenizer
from pipelines.tasks.translation.translator import Translator
from pipelines.text.pairs import read_pairs

TOLERANCE = 1e-4  # of scores, in float32
NUM_SAMPLES = 16  # Validation sentences that have to be translated alike.
# Where CTranslate2 forbids a token it scales up the others, so that scores and beams are others.
UNLIKE = ("temperature", "min_length", "no_repeat_ngram")


def write_ctranslate2(
    module: Translator, config: ml_collections.ConfigDict, folder: Path, quantization: str
) -> float:
    """Writes a translator for CTranslate2, if it translates in float32 as TensorFlow does.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        folder: path of an empty folder.
        quantization: str. One of `QUANTIZATIONS`.

    Returns:
        The largest difference of scores in float32.

    Raises:
        ImportError: where CTranslate2 is missing.
        ValueError: when CTranslate2 cannot express the model or its search, or answers differ.
    """
    check_search(config)
    if not isinstance(module.tokenizer, SentencePieceTokenizer):
        raise ValueError(
            "Expected a run with tokenizers of its own with format='ctranslate2', received one "
            "that began with a Marian model: save it for transformers, and convert it by "
            "ct2-transformers-converter."
        )
    write_files(module, config.decode, folder)
    largest = difference(module, folder, read_pairs(config.data, "validation")[:NUM_SAMPLES])
    if quantization != "float32":
        write_files(module, config.decode, folder, quantization)
    return largest


def write_files(
    module: Translator,
    decode: ml_collections.ConfigDict,
    folder: Path,
    quantization: str = "float32",
) -> None:
    """Writes the files of a folder for CTranslate2, also over others.

    Args:
        module: what `serving` returns.
        decode: the search, as in a config.
        folder: path of the folder.
        quantization: str. One of `QUANTIZATIONS`.
    """
    tokenizers = [module.tokenizer]
    if module.target_tokenizer is not module.tokenizer:
        tokenizers.append(module.target_tokenizer)
    export_ctranslate2(
        module.model,
        folder,
        tokenizers[0].vocabulary,
        tokenizers[1].vocabulary if len(tokenizers) > 1 else None,
        unknown=tokenizers[-1].vocabulary[UNKNOWN_ID],
        quantization=quantization,
        max_length=int(decode.max_ratio * decode.max_source_length) + decode.max_extra,
    )
    for name, tokenizer in zip(TOKENIZERS, tokenizers, strict=False):
        (folder / name).write_bytes(tokenizer.proto)
    (folder / SEARCH).write_text(json.dumps(decode.to_dict(), indent=1) + "\n", "utf-8")


def check_search(config: ml_collections.ConfigDict) -> None:
    """Refuses models and searches that CTranslate2 does not have.

    Raises:
        ValueError: naming the first value.
    """
    if config.model.name != "transformer":
        raise ValueError(
            "Expected model.name='transformer' with format='ctranslate2', which runs no other "
            f"translator, received model.name={config.model.name!r}."
        )
    for key in UNLIKE:
        if config.decode[key]:
            raise ValueError(
                f"Expected decode.{key}=0 with format='ctranslate2', whose search does this in "
                f"another way, received decode.{key}={config.decode[key]}."
            )


def difference(module: Translator, folder: Path, pairs: list[tuple[str, str]]) -> float:
    """Compares translations and scores of a translator and of a folder made of it.

    Args:
        module: what `serving` returns.
        folder: path of the folder.
        pairs: sources and targets.

    Returns:
        The largest difference of scores.

    Raises:
        ValueError: when a translation differs, or a score by more than `TOLERANCE`.
    """
    translator = CTranslate2Translator(folder)
    source, target = zip(*pairs, strict=True)

    def compare(function, run, **sample):
        return largest_difference(
            traced(function), lambda inputs: run(**inputs), [sample], TOLERANCE, "CTranslate2"
        )

    return max(
        compare(module.score, translator.score, source=source, target=target),
        compare(module.translate, translator.translate, text=source),
    )
