"""A translator on sentence pairs of your own: the data decide its sizes, which it prints.

Command: `python -m apps.train --config=my_translation --config.data.folder=my_pairs
--workdir=runs/mine`

`my_pairs` holds `train.en` and `train.de`, or `train.tsv`, and perhaps `validation.*` and `test.*`,
or is one table (TSV, CSV) itself: see docs/translation.md. Any value here can be given by a flag.
"""

from pipelines.tasks import translation

AUTO = "auto"


def get_config():
    config = translation.default_config()
    config.data.format = AUTO
    config.data.folder = ""
    for key in ("train", "validation", "test", "columns", "languages", "held_out"):
        config.data[key] = AUTO
    config.tokenizer.kind = "bpe"  # Unigram finds few pieces in little text.
    config.tokenizer.vocabulary_size = AUTO
    for key in ("name", "variant", "norm_first", "dropout"):
        config.model[key] = AUTO
    for key in ("epochs", "batch_tokens", "learning_rate"):
        config.train[key] = AUTO
    config.train.warmup_steps = "15%"
    config.train.validate_every = "5%"
    config.train.checkpoint_every = "5%"
    config.train.schedule = "cosine"
    config.weights = "last"  # After a cosine the last is better than the average.
    config.decode.beam_size = 5
    config.decode.length_penalty = "length"
    config.decode.alpha = 1.0
    return config
