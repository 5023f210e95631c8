"""A small task for the loop and its step: what the tests of training share."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasformer.models import Seq2SeqTransformer
from pipelines.tasks import translation
from pipelines.training import loop
from pipelines.training.task import Data
from pipelines.training.trainer import Trainer

VOCABULARY = 17
IDS = tf.TensorSpec((None, None), tf.int32)
SPECS = {"source": IDS, "target": IDS, "labels": IDS}
ONE_DEVICE = tf.distribute.get_strategy()


def draw_batch(*seed, rows=6, length=7):
    """Draws token ids in rows of unequal lengths, and one row without labels."""
    random = np.random.default_rng(seed)
    source, labels = random.integers(4, VOCABULARY, (2, rows, length)).astype(np.int32)
    for ids in (source, labels):
        ids[np.arange(length) >= random.integers(1, length + 1, (rows, 1))] = 0
    labels[1] = 0
    target = np.concatenate([np.ones((rows, 1), np.int32), labels[:, :-1]], axis=1)
    return {"source": source, "target": target, "labels": labels}


class TokenTask:
    """A task for the loop: translation's losses, on token ids that a seed draws.

    Args:
        batches: int. Batches of an epoch.
        scores: the `bleu` of each validation in turn.
    """

    METRICS, PREPARED = translation.METRICS, translation.PREPARED
    FIXED_KEYS, FREE_KEYS = translation.FIXED_KEYS, translation.FREE_KEYS
    LOCAL_KEYS = translation.LOCAL_KEYS
    default_config = staticmethod(translation.default_config)
    loss, metrics = staticmethod(translation.loss), staticmethod(translation.metrics)
    begin, finish = staticmethod(translation.begin), staticmethod(translation.finish)
    after_step = staticmethod(translation.after_step)
    settle, resolve = staticmethod(translation.settle), staticmethod(translation.resolve)

    def __init__(self, batches=5, scores=()):
        self.batches, self.scores = batches, iter(scores)

    def check(self, config):
        pass

    def datasets(self, config, workdir, shard):
        def train(first):
            batches = (draw_batch(config.seed, number) for number in range(first, 10**6))
            return as_dataset(take_rows(batch, shard) for batch in batches)

        validation = as_dataset([draw_batch(config.seed, 10**6)])
        return Data(train, validation, self.batches, "tokens")

    def build(self, config, workdir):
        """Builds a model of few operations: the bag of the source and the token before."""
        policy = {"dtype": config.train.precision}
        source, target = (
            keras.Input((None,), name=name, dtype="int32") for name in ("source", "target")
        )
        embedding = keras.layers.Embedding(VOCABULARY, 5, **policy)
        bag = ops.sum(embedding(source) * ops.cast(source != 0, "float32")[..., None], 1, True)
        x = keras.layers.Dropout(config.model.dropout, **policy)(embedding(target) + bag)
        logits = keras.layers.Dense(VOCABULARY, **policy)(x)
        model = keras.Model({"source": source, "target": target}, logits)
        model.pad_id = 0  # As a translator has it, whose loss this is.
        return model

    def validation_scorer(self, model, config, workdir):
        return lambda: {"bleu": next(self.scores)}


class TransformerTask(TokenTask):
    """The same task for a Transformer."""

    def build(self, config, workdir):
        sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 11}
        options = {"dropout": config.model.dropout, "dtype": config.train.precision}
        model = Seq2SeqTransformer(VOCABULARY, **sizes, **options)
        model.build()
        return model


class Overflowing(TokenTask):
    """A task whose gradient overflows, but not its loss, where the last token id is read."""

    @staticmethod
    def loss(model, batch, config):
        total, items = TokenTask.loss(model, batch, config)
        is_bad = tf.reduce_any(batch["source"] == VOCABULARY - 1)
        return total + tf.where(is_bad, 3e38, 0.0) * (total - tf.stop_gradient(total)), items


def draw_overflow(row):
    """Draws a batch whose gradient is finite, and the same where it overflows in one row."""
    good = draw_batch(3)
    good["source"] = np.minimum(good["source"], VOCABULARY - 2)
    bad = {**good, "source": good["source"].copy()}
    bad["source"][row, 0] = VOCABULARY - 1
    return good, bad


def take_rows(batch, shard):
    return {name: ids[shard.index :: shard.count] for name, ids in batch.items()}


def as_dataset(batches):
    return tf.data.Dataset.from_generator(lambda: batches, output_signature=SPECS)


def make_config(dropout=0.3, **train):
    config = translation.default_config()
    config.model = {"dropout": dropout}
    small = {"steps": 12, "warmup_steps": 5, "learning_rate": 0.03, "ema": 0.9}
    often = {"steps_per_call": 2, "log_every": 2, "validate_every": 4, "checkpoint_every": 3}
    config.train.update(small | often | train)
    return config


def run(workdir, task=None, strategy=None, allow_changes=True, **changes):
    config, options = make_config(**changes), {"allow_changes": allow_changes}
    return loop.train(task or TokenTask(), config, str(workdir), strategy, **options)


def replicas(count):
    """Mirrors over parts of the processor, as `strategies.make` does."""
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(count)], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def two_replicas():
    return replicas(2)


def make_trainer(task=None, strategy=ONE_DEVICE, seed=3, **changes):
    """Makes a trainer without dropout; equal seeds give equal weights."""
    # Adam divides noise by noise where a gradient is 0; this epsilon lets sums be compared.
    config = make_config(**{"dropout": 0.0, "epsilon": 1e-3, **changes})
    keras.utils.set_random_seed(seed)
    task = task or TokenTask()
    with strategy.scope():
        return Trainer(task, config, task.build(config, None), strategy)


def mean_loss(trainer, *batches):
    sums = [trainer.task.loss(trainer.model, batch, trainer.config) for batch in batches]
    return float(sum(loss for loss, _ in sums) / sum(items for _, items in sums))


def step(trainer, *batches):
    """Takes a step on each batch; returns the sums of losses and items, and the last norm."""
    return take_steps(trainer, iter(as_dataset(list(batches))), len(batches))


def take_steps(trainer, iterator, count):
    steps = trainer.steps(iterator, tf.constant(count))
    return [float(x) for x in (steps.loss, steps.items, steps.norm)]


def weights(trainer):
    return [variable.numpy() for variable in trainer.model.trainable_variables]
