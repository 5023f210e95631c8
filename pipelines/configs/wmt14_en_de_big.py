"""Transformer big on WMT14 English-German, as in the paper (Vaswani et al., 2017).

The paper: 300,000 steps, dropout 0.3, average of the last 20 checkpoints, beam 4, alpha 0.6: BLEU
28.4 on newstest2014 (tokenised), 3.5 days on 8 P100.

Command:
`python -m apps.train --config=wmt14_en_de_big --workdir=runs/wmt14_big --strategy=mirrored`

Not run: neither the data nor such a machine were at hand. The parameter count, the schedule and
the reading of TFDS data are tested.
"""

from pipelines.configs import wmt14_en_de_base


def get_config():
    config = wmt14_en_de_base.get_config()
    config.model.variant = "big"
    config.train.steps = 300_000
    config.train.learning_rate = 1024**-0.5 * 4000**-0.5  # The peak of the paper's equation 3.
    config.train.keep_checkpoints = 20
    return config
