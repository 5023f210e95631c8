"""Portuguese-English TED talks from TensorFlow Datasets, for a model of tutorial size.

The data set is prepared by TFDS on first use (`--config.data.download=True`, with a network), or
read from `--config.data.data_dir=DIR` where it lies prepared.

Command: `python -m apps.train --config=ted_pt_en --workdir=runs/ted`

Not run: the data set cannot be downloaded on the machine where this was written. The reading of
prepared TFDS folders is tested on a small one that the tests write.
"""

from pipelines.tasks import translation


def get_config():
    config = translation.default_config()
    config.data.format = "tfds"
    config.data.name = "ted_hrlr_translate/pt_to_en"
    config.data.data_dir = "~/tensorflow_datasets"
    config.data.languages = ("pt", "en")
    config.data.download = False
    config.data.train, config.data.validation, config.data.test = "train", "validation", "test"
    config.tokenizer.vocabulary_size = 8000
    config.model.variant = "tiny"
    config.model.intermediate_dim = 512
    config.model.num_heads = 8
    config.model.dropout = 0.1
    config.train.steps = 16_000
    config.train.batch_tokens = 4096
    config.train.learning_rate = 0.002
    config.train.warmup_steps = 4000
    return config
