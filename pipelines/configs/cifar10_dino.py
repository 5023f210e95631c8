"""The Transformer of `cifar10_cpu` learns from CIFAR-10 without labels: DINO, scaled down.

Its convolutions leave 16 tokens of an image, so that two CPU cores see every image forty times in
some hours. Global views have 32 pixels and local ones 16, where DINO has 224 and 96; two of these
instead of eight; 4,096 prototypes instead of 65,536 behind layers of 512 and a bottleneck of 128.
There is no blur, because 32 pixels have no detail to spare, and local views show no less than 15 %
of the image. The data set lies prepared in `$KERASFORMER_DATA/tfds`, or where
`--config.data.data_dir=DIR` says.

Command: `python -m apps.train --config=cifar10_dino --workdir=runs/cifar10_dino`

Then: `python -m apps.evaluate --workdir=runs/cifar10_dino`, and `cifar10_dino_probe`, a linear
classifier on its features. `docs/self_supervision.md` has what came of it.
"""

from pipelines.tasks import self_distillation


def get_config():
    config = self_distillation.default_config()
    config.data.format = "tfds"
    config.data.name = "cifar10"
    config.data.data_dir = "$KERASFORMER_DATA/tfds"
    config.data.download = False
    config.data.train, config.data.validation = "train[:95%]", "train[95%:]"
    config.data.test = "test"
    config.views.global_area = (0.4, 1.0)
    config.views.local_count = 2
    config.views.local_size = 16
    config.views.local_area = (0.15, 0.4)
    config.views.blur = (0.0, 0.0, 0.0)
    config.model.variant = "CCT-4/3x3"
    config.model.image_size = 32
    config.model.attention_dropout = 0.0
    config.head.output_dim = 4096
    config.head.intermediate_dim = 512
    config.head.bottleneck_dim = 128
    config.teacher.temperature = 0.04  # As at its beginning.
    config.train.precision = "auto"  # bfloat16 where the processor multiplies it
    config.train.epochs = 40
    config.train.batch_size = 128
    config.train.learning_rate = 0.001
    config.train.best_metric = "knn_top1"
    config.train.steps_per_call = 50
    config.train.log_every = 100
    config.train.validate_every = "5%"
    config.train.checkpoint_every = 500
    config.train.keep_checkpoints = 2
    return config
