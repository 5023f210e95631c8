"""A small recurrent translator with Bahdanau's attention on Multi30k English-German.

The files and the search are those of `multi30k_en_de`, and `multi30k_rnn:raw` trains on the text
as it is written.

Command: `python -m apps.train --config=multi30k_rnn --workdir=runs/multi30k_rnn`

Result: 37.0 BLEU of lower-cased tokens of the 2016 test set, in 108 minutes on two cores with
AVX-512 that had other work too. Idle, they train on 4,840 target tokens a second: 40 minutes. With
`--config.model.attention=None` it is 20.3, at 8,100 tokens a second.
"""

from pipelines.configs import multi30k_en_de


def get_config(text="tok"):
    config = multi30k_en_de.get_config(text)
    del config.model["norm_first"]
    config.model.name = "recurrent"
    config.model.variant = "multi30k"
    config.train.steps = 3000
    config.train.learning_rate = 0.002
    config.train.warmup_steps = 300
    return config
