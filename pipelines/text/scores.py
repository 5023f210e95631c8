"""Scores of translations, and a table of the sentences that went worst and best.

BLEU is reported on both scales of the field. sacreBLEU (cased; 13a, or the tokenizer of the target
language) compares detokenised text and is what translation papers report; BLEU of tokenised
lower-cased text is what papers on Multi30k report, and several points higher. The two must never
be compared with each other.
"""

import itertools
import unicodedata
from collections.abc import Sequence

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.bleu import BLEUScore
from sacrebleu.significance import PairedTest

from pipelines.text.languages import count_words

TABLE_HEAD = ("| chrF | text | |", "| ---: | :--- | :--- |")
BREAKS = ("Cc", "Zl", "Zp")  # Unicode categories: control characters, line and paragraph ends.
LENGTHS = 5  # words of the source by which sentences are grouped
FEWEST = 20  # sentences whose BLEU says something
EXTRAS = {"ja-mecab": "ja", "ko-mecab": "ko"}  # Of sacreBLEU, which its tokenizers need.


def check_tokenizer(name: str) -> None:
    """Makes sure that one of sacreBLEU's tokenizers can be used.

    Raises:
        ValueError: if there is none of this name, or what it needs cannot be loaded.
        ImportError: if its packages are missing.
    """
    if name not in BLEU.TOKENIZERS:
        raise ValueError(
            f"Expected data.bleu_tokenizer to be one of {', '.join(BLEU.TOKENIZERS)}, "
            f"received data.bleu_tokenizer={name!r}."
        )
    try:
        BLEU(tokenize=name)
    except RuntimeError as error:
        raise ImportError(
            f'BLEU with the tokenizer {name} needs `pip install "sacrebleu[{EXTRAS.get(name)}]"`; '
            'data.bleu_tokenizer="char" needs nothing.'
        ) from error
    except (OSError, SystemExit) as error:
        raise ValueError(
            f"sacreBLEU cannot download or read the model of its tokenizer {name}: {error}."
        ) from error


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str],
    is_tokenized: bool,
    tokenizer: str = "13a",
) -> BLEUScore:
    """Computes BLEU on the scale on which text of its kind is compared.

    Args:
        hypotheses: translations, one a sentence.
        references: right translations, one a sentence.
        is_tokenized: whether spaces split off the words already. Then BLEU takes the words as
            they are, lower-cased; else sacreBLEU splits them by its rules, cased.
        tokenizer: name of these rules, as `languages.bleu_tokenizer` chooses it.

    Returns:
        Score object of sacreBLEU, with `score`, `precisions`, `bp`, `sys_len` and `ref_len`.

    Raises:
        ValueError: for no sentences, another number of hypotheses than of references, or a
            tokenizer that cannot be used.

    Example:

    >>> round(bleu(["a b c d e"], ["a b c d f"], is_tokenized=True).score, 2)
    66.87

    References:
        - [Papineni et al., 2002](https://aclanthology.org/P02-1040), BLEU
        - [Post, 2018](https://arxiv.org/abs/1804.08771), sacreBLEU
    """
    _check(hypotheses=hypotheses, references=references)
    check_tokenizer(tokenizer)
    metric = _bleu_of_lowercase_words() if is_tokenized else BLEU(tokenize=tokenizer)
    return metric.corpus_score(hypotheses, [references])


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    is_tokenized: bool,
    bootstrap: int = 1000,
    tokenizer: str = "13a",
) -> dict:
    """Computes BLEU on both scales and chrF, with 95 % confidence intervals.

    Args:
        hypotheses: translations, one a sentence.
        references: right translations, one a sentence.
        is_tokenized: whether spaces split off the words already.
        bootstrap: how many resamples of the sentences the intervals come from; the seed is
            sacreBLEU's own and stands in the signatures. At most 1 gives intervals of no width.
        tokenizer: sacreBLEU's rules for words, which stand in the signatures, as in `bleu`.

    Returns:
        Dict that JSON can hold. `bleu` and `chrf` are cased; `bleu_lowercase_tokenized` is of the
        lower-cased words. Each of the three has its signature (`signature`, `chrf_signature`,
        `bleu_lowercase_tokenized_signature`); `bleu_interval` and `chrf_interval` are
        `[low, high]`. `brevity_penalty`, `hypothesis_words`, `reference_words` and their
        `length_ratio` belong to `bleu`; `sentences` counts the sentences.

    Raises:
        ValueError: as `bleu`.

    Example:

    >>> score(["Das ist gut so ."], ["Das ist gut so ."], is_tokenized=False)["bleu"]
    100.0

    References:
        - [Koehn, 2004](https://aclanthology.org/W04-3250), bootstrap resampling
        - [Popović, 2015](https://aclanthology.org/W15-3049), chrF
    """
    _check(hypotheses=hypotheses, references=references)
    check_tokenizer(tokenizer)
    # Tokenised text is no mistake here, so `force` keeps sacreBLEU from warning of it.
    cased = BLEU(force=is_tokenized, tokenize=tokenizer)
    cased_score = cased.corpus_score(hypotheses, [references])
    words = _bleu_of_lowercase_words("none" if is_tokenized else tokenizer)
    words_score = words.corpus_score(hypotheses, [references])
    data = hypotheses, references, bootstrap
    bleu_score, bleu_interval, signature = _bootstrapped(
        BLEU(force=True, tokenize=tokenizer), *data
    )
    chrf_score, chrf_interval, chrf_signature = _bootstrapped(CHRF(), *data)
    return {
        "bleu": bleu_score,
        "bleu_interval": bleu_interval,
        "signature": signature,
        "chrf": chrf_score,
        "chrf_interval": chrf_interval,
        "chrf_signature": chrf_signature,
        "bleu_lowercase_tokenized": round(words_score.score, 2),
        "bleu_lowercase_tokenized_signature": str(words.get_signature()),
        "sentences": len(hypotheses),
        "hypothesis_words": cased_score.sys_len,
        "reference_words": cased_score.ref_len,
        "length_ratio": round(cased_score.ratio, 3),
        "brevity_penalty": round(cased_score.bp, 3),
    }


def by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    is_tokenized: bool,
    tokenizer: str = "13a",
) -> list[dict]:
    """Computes BLEU of short and of long sentences.

    Sentences are grouped by the words of their source: 1 to 5, 6 to 10, and so on. A group of fewer
    than 20 sentences is joined with the longer ones behind it, and the last with the one before.

    Args:
        sources: what was translated, one a sentence.
        hypotheses, references, is_tokenized, tokenizer: as `bleu` takes them.

    Returns:
        List of dicts of `words`, the fewest and the most words of a source, how many `sentences`
        there are, and their `bleu`, as the function `bleu` computes it.

    Raises:
        ValueError: as `bleu`.

    Example:

    >>> by_length(["ein Satz"], ["one sentence of mine"], ["one sentence of mine"], True)
    [{'words': [2, 2], 'sentences': 1, 'bleu': 100.0}]
    """
    _check(sources=sources, hypotheses=hypotheses, references=references)
    counts = [count_words(source) for source in sources]
    order = sorted(range(len(counts)), key=lambda index: counts[index])
    groups: list[list[int]] = []
    for _, rows in itertools.groupby(order, lambda index: (counts[index] - 1) // LENGTHS):
        if groups and len(groups[-1]) < FEWEST:
            groups[-1].extend(rows)
        else:
            groups.append(list(rows))
    if len(groups) > 1 and len(groups[-1]) < FEWEST:
        groups[-2:] = [groups[-2] + groups[-1]]
    found = []
    for group in groups:
        ours, right = ([each[index] for index in group] for each in (hypotheses, references))
        value = round(bleu(ours, right, is_tokenized, tokenizer).score, 2)
        words = [counts[group[0]], counts[group[-1]]]
        found.append({"words": words, "sentences": len(group), "bleu": value})
    return found


def sentence_chrf(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """Computes chrF of each sentence by itself, whose BLEU would be mostly noise."""
    chrf = CHRF()
    pairs = zip(hypotheses, references, strict=True)
    return [chrf.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]


def table(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], count: int = 10
) -> str:
    """Writes the worst and the best sentences as Markdown that a terminal shows well too.

    Sentences are ordered by their chrF.

    Args:
        sources: what was translated, one a sentence.
        hypotheses: translations.
        references: right translations.
        count: how many of the worst and how many of the best; no sentence is shown twice.

    Returns:
        Two tables under headings, three rows a sentence.

    Raises:
        ValueError: for no sentences, unequal numbers of them, or a `count` below 1.

    Example:

    >>> print(table(["good"], ["gut"], ["gut"]))
    Worst sentences:
    <BLANKLINE>
    | chrF | text | |
    | ---: | :--- | :--- |
    | 100.0 | source | good |
    | | reference | gut |
    | | translation | gut |
    """
    _check(sources=sources, hypotheses=hypotheses, references=references)
    if count < 1:
        raise ValueError(f"Expected count to be at least 1, received count={count}.")
    texts = list(zip(sources, references, hypotheses, strict=True))
    scores = sentence_chrf(hypotheses, references)
    order = sorted(range(len(texts)), key=lambda index: scores[index])
    worst = order[:count]
    best = order[count:][-count:][::-1]
    parts = []
    for heading, indices in (("Worst", worst), ("Best", best)):
        if indices:
            rows = [_rows(scores[index], *texts[index]) for index in indices]
            parts.append("\n".join([f"{heading} sentences:\n", *TABLE_HEAD, *rows]))
    return "\n\n".join(parts)


def _rows(chrf, source, reference, hypothesis):
    return "\n".join(
        f"|{mark} {name} | {_cell(text)} |"
        for mark, name, text in (
            (f" {chrf:.1f} |", "source", source),
            (" |", "reference", reference),
            (" |", "translation", hypothesis),
        )
    )


def _cell(text):
    """Escapes what would end a cell or a row, or move the cursor of a terminal."""
    plain = "".join(
        " " if unicodedata.category(character) in BREAKS else character for character in text
    )
    return plain.replace("\\", "\\\\").replace("|", "\\|")


def _bleu_of_lowercase_words(tokenizer="none"):
    return BLEU(lowercase=True, tokenize=tokenizer, force=True)


def _bootstrapped(metric, hypotheses, references, bootstrap):
    """Returns the score of a metric, its interval `[low, high]`, and the signature of both."""
    if bootstrap <= 1:
        score = round(metric.corpus_score(hypotheses, [references]).score, 2)
        return score, [score, score], str(metric.get_signature())
    # A test of one system compares nothing, and bootstraps its score. `corpus_score` does so too,
    # but fails for chrF where some resamples score 0, which are numbers of another type.
    systems, samples = [("hypotheses", hypotheses)], {"n_samples": bootstrap, "n_jobs": 1}
    test = PairedTest(systems, {"metric": metric}, [references], test_type="bs", **samples)
    signatures, results = test()
    ((name, signature),) = signatures.items()
    (result,) = results[name]
    low, high = float(result.mean - result.ci), float(result.mean + result.ci)
    interval = [round(max(low, 0.0), 2), round(min(high, 100.0), 2)]
    return round(result.score, 2), interval, str(signature)


def _check(**texts):
    counts = {name: len(sentences) for name, sentences in texts.items()}
    received = ", ".join(f"{count} {name}" for name, count in counts.items())
    if len(set(counts.values())) > 1:
        raise ValueError(f"Expected as many of each, received {received}.")
    if not all(counts.values()):
        raise ValueError(f"Expected at least one sentence, received {received}.")
