"""A small Transformer that learns scikit-learn's handwritten digits without their classes: DINO.

Command: `python -m apps.train --config=demo_dino --workdir=runs/demo_dino`

Result: the nearest neighbours name 80.5 % of the test images right, after 147 seconds on two cores
that had other work too; 52 % of the images to validate after 40 steps and 75 % after 1,000. It
shows how, and is not to be used: those of the pixels, all alike in size and place, name 98 % right.
"""

from pipelines.tasks import self_distillation


def get_config():
    config = self_distillation.default_config()
    config.data.format = "digits"
    config.views.local_count = 2
    config.views.local_size = 6
    config.views.local_area = (0.3, 0.7)
    config.views.global_area = (0.7, 1.0)
    config.views.flip = 0.0
    config.views.blur = (0.0, 0.0, 0.0)
    config.views.solarize = (0.0, 0.0, 0.0)
    config.model.variant = "ViT-Lite-6/4"
    config.model.image_size = 8
    config.model.patch_size = 2
    config.model.num_layers = 2
    config.model.hidden_dim = 64
    config.model.num_heads = 4
    config.model.intermediate_dim = 128
    config.model.attention_dropout = 0.0
    config.head.output_dim = 256
    config.head.intermediate_dim = 128
    config.head.bottleneck_dim = 32
    config.teacher.momentum = 0.99
    config.teacher.temperature = 0.04
    config.train.steps = 1000
    config.train.batch_size = 64
    config.train.learning_rate = 0.001
    config.train.best_metric = "knn_top1"
    config.train.validate_every = 200
    config.train.checkpoint_every = 200
    config.train.keep_checkpoints = 3
    return config
