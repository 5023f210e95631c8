"""Transformer base on WMT14 English-German, as in the paper (Vaswani et al., 2017).

The paper: 100,000 steps of about 25,000 source and 25,000 target tokens, average of the last 5
checkpoints, beam 4, alpha 0.6: BLEU 27.3 on newstest2014 (tokenised), 12 hours on 8 P100.

Command: `python -m apps.train --config=wmt14_en_de_base --workdir=runs/wmt14 --strategy=mirrored`

Not run: neither the data nor such a machine were at hand. The parameter count, the schedule and
the reading of TFDS data are tested.
"""

from pipelines.tasks import translation


def get_config():
    config = translation.default_config()
    config.data.format = "tfds"
    config.data.name = "wmt14_translate/de-en"
    config.data.data_dir = "~/tensorflow_datasets"
    config.data.languages = ("en", "de")
    config.data.download = False
    config.data.train, config.data.validation, config.data.test = "train", "validation", "test"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocabulary_size = 37_000
    config.model.variant = "base"
    config.train.steps = 100_000
    config.train.batch_tokens = 25_000
    config.train.learning_rate = 512**-0.5 * 4000**-0.5  # The peak of the paper's equation 3.
    config.train.warmup_steps = 4000
    config.train.clip_norm = 0.0
    config.train.log_every = 100
    config.train.validate_every = 2000
    config.train.checkpoint_every = 1500
    config.train.keep_checkpoints = 5
    config.decode.max_ratio = 1.0
    config.decode.max_extra = 50
    return config
