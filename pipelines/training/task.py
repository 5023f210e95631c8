"""The contract between a task and the programs: all that the author of a task writes.

A task is anything that has the names of `Task`: a package whose `__init__.py` hands them on (as
`pipelines.tasks.translation` does) or an object. Twelve names have a default, the functions at the
end of this file, which a task hands on as they are if it has nothing to do there: `settle`,
`resolve`, `begin`, `finish`, `after_step`, `validation_scorer`, `inputs`, `exported`, `own_test`,
`leaks`, `card` and `write_ctranslate2`. A package hands one on by
`from pipelines.training.task import after_step as after_step`. A new task is added to `TASKS` in
`apps/tasks.py`, and its folder to `ROOMS` in `BUILD`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import keras
import ml_collections
import tensorflow as tf

from pipelines.data.shards import Shard


class Data(NamedTuple):
    """What a task's `datasets` returns.

    Attributes:
        train: function of a number of batches `-> tf.data.Dataset` of the batches after them,
            without end; this process's part of each batch, a dict of tensors.
        validation: `tf.data.Dataset` of batches, read once a validation; whole batches.
        batches_per_epoch: float.
        items: what a loss is summed over, in the plural, such as `"tokens"` or `"images"`.
        fingerprint: a hash of each part of the data by its name, such as `"training pairs"`; a run
            does not resume with other data.
        prepared: a hash of each file of `Task.PREPARED`, which the training adds.
        counts: how many of what there are, such as `{"training pairs": 29000}`, for the model card.
    """

    train: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    batches_per_epoch: float
    items: str
    fingerprint: Mapping[str, str | int] = {}
    prepared: Mapping[str, str] = {}
    counts: Mapping[str, int] = {}


class Evaluation(NamedTuple):
    """What a task's `evaluate` returns.

    Attributes:
        scores: a dict that JSON can hold.
        table: examples or classes, in Markdown.
        figures: matplotlib figures by name.
        predictions: a dict of plain values for each item of the split, in its order: what was read,
            its reference, the prediction and how sure or how good it is. All have the same keys. A
            `.txt` gets the value of `prediction`, or the last one where there is no such key.
    """

    scores: dict[str, Any]
    table: str
    figures: Mapping[str, Any] = {}
    predictions: Sequence[Mapping[str, Any]] = ()


class Task(Protocol):
    """What a task offers to the training loop and to the programs.

    Attributes:
        METRICS: the metrics that a validation can report, one of which is `train.best_metric`. Of
            one whose name ends in `loss` the lowest value is the best, of others the highest.
        DEFAULTS: every key of the config with its default. The programs read `"task"`, the name in
            `TASKS`; `"seed"`; `"weights"`, which weights are evaluated; and `"train"`, which
            includes `training.settings.DEFAULTS`.
        PREPARED: the files that `datasets` makes of the data and writes to the run's folder. A
            checkpoint keeps their hashes; exports to other runtimes get a copy.
        FIXED_KEYS: keys of the config, or parts of it, that a run never changes.
        FREE_KEYS: keys that may change at any time, because they change no weights.
        LOCAL_KEYS: free keys that may also differ between the processes of one run, because they
            only say where the data lie.
    """

    METRICS: tuple[str, ...]
    DEFAULTS: dict[str, Any]
    PREPARED: tuple[str, ...]
    FIXED_KEYS: tuple[str, ...]
    FREE_KEYS: tuple[str, ...]
    LOCAL_KEYS: tuple[str, ...]

    def default_config(self) -> ml_collections.ConfigDict:
        """Returns a config with every key that the task and the training loop read."""

    def settle(self, config: ml_collections.ConfigDict) -> Sequence[str]:
        """Makes values agree that a config file and a flag set apart; by default there are none.

        For example a variant of one family of models, and the name of another. It is called first
        and by every process, also where a run resumes, so that the same comes out each time.

        Args:
            config: the complete config, which may be changed.

        Returns:
            Sentences that say what was changed.
        """

    def resolve(self, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
        """Replaces values `"auto"` by what the data ask for, and prints what it chose.

        By default there are none. Only the chief of a new run calls it, before `check`, with a copy
        of the config that takes values of any type. A run that resumes keeps what was chosen.

        Args:
            config: the config, which may be changed.

        Returns:
            The config without `"auto"`. Where a part had an `"auto"`, the run also takes the keys
            that were added to it (such as a model's size beside its variant).

        Raises:
            ValueError: when the data cannot be read.
        """

    def check(self, config: ml_collections.ConfigDict) -> None:
        """Refuses values that cannot be, by a `ValueError`, before anything is read or written."""

    def datasets(self, config: ml_collections.ConfigDict, workdir: str, shard: Shard) -> Data:
        """Reads the data, writes the files of `PREPARED`, makes batches.

        Once the run has checkpoints the files are read and never written again.
        In a run of several processes the chief calls this first; the others then find its files in
        their own `workdir`. Random numbers that an objective needs, such as a mask, belong into the
        batches: there a run that resumes, and any number of replicas, gets the same ones.
        """

    def build(self, config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
        """Builds the model with fresh weights, by the config and the files of `PREPARED`."""

    def begin(
        self, model: keras.Model, config: ml_collections.ConfigDict, workdir: str, is_new: bool
    ) -> keras.Model:
        """Prepares a built model for training; by default the model stays as it is.

        It may load the weights of another run, freeze layers, or wrap the model together with a
        teacher. Programs that only use the run call `build` alone, so a wrapper keeps the
        variables of the model before its own. Keras lists a layer's own weights before those of the
        layers inside it, so that a wrapper's own stand in a layer behind the model.

        Args:
            model: what `build` returned.
            config: the resolved config, in which `train.steps` and `train.epochs` both have values
                and shares are steps. `loss`, `metrics` and `after_step` get the same.
            workdir: folder of the run.
            is_new: bool. False when the run resumes, whose weights a checkpoint then replaces.

        Returns:
            The model that is trained and saved.
        """

    def loss(
        self,
        model: keras.Model,
        batch: dict[str, tf.Tensor],
        config: ml_collections.ConfigDict,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the loss of a training batch, on each replica for its rows.

        It may also change variables that are not trained and whose names begin with `moving_`, such
        as sums for `after_step`: a step that is skipped puts them back. What all replicas saw is
        had by `tf.distribute.get_replica_context().all_reduce`.

        Returns:
            Tuple of its sum over the real items and their number, float32 scalars. The gradient is
            that of the sum divided by the number, both taken over all replicas; a trainable weight
            that the loss does not use has the gradient zero.
        """

    def metrics(
        self,
        model: keras.Model,
        batch: dict[str, tf.Tensor],
        config: ml_collections.ConfigDict,
    ) -> Mapping[str, Any]:
        """Computes sums over the real items of a validation batch, on each replica for its rows.

        Returns:
            Dict of float32 tensors of any shape, or tuples of them, that the loop adds up over
            replicas and batches: counts, a confusion matrix, sums of squares.
        """

    def finish(self, sums: Mapping[str, Any]) -> Mapping[str, float]:
        """Turns the sums of a validation into what it reports.

        By default each of them is a pair `(sum, count)`, and the metric is their ratio.

        Args:
            sums: what `metrics` returned, added up, as float64 arrays.

        Returns:
            Dict of numbers by names of `METRICS`, and of others that are only logged.
        """

    def after_step(self, model: keras.Model, config: ml_collections.ConfigDict) -> None:
        """Changes variables of the model after an update of its weights; by default none.

        For example a teacher that follows its student. It is called inside the `tf.function` of
        the step, outside of the replicas, so that an assignment changes all their copies alike. A
        step that is skipped, because its gradient is not finite, does not call it. What it changes
        are variables of the model, which checkpoints hold.
        """

    def validation_scorer(
        self, model: keras.Model, config: ml_collections.ConfigDict, workdir: str
    ) -> Callable[[], dict[str, float]]:
        """Makes the function that computes those of `METRICS` that `finish` does not return.

        By default there are none. The chief alone makes the function, once, and calls it at each
        validation, if `train.best_metric` is among these metrics.
        """

    def serving(
        self, model: keras.Model, config: ml_collections.ConfigDict, workdir: str
    ) -> tf.Module:
        """Makes what is evaluated and exported.

        A SavedModel also holds the call of each Keras model in it, as it is outside of training:
        that call draws no random numbers.

        Returns:
            A `tf.Module` with a method `signatures() -> dict` of `tf.function` by name, and, for
            other runtimes, `runtime_functions(format) -> dict` of tuples by name: a `tf.function`,
            a list of samples (dicts of arrays by the names of its inputs), and a dict of further
            arguments of what writes the file, such as `interop.onnx.export_onnx`.
        """

    def inputs(
        self, module: Any, config: ml_collections.ConfigDict, split: str, count: int
    ) -> list[dict[str, Any]]:
        """Reads inputs of a split, for what `runtime_functions` returns; by default none.

        Args:
            module: what `serving` returned.
            config: the resolved config.
            split: `"train"`, `"validation"` or `"test"`.
            count: int. How many, evenly spaced in the split; all, where there are fewer.

        Returns:
            List of batches, dicts of arrays by the names of the inputs.
        """

    def exported(
        self, functions: Mapping[str, Callable], config: ml_collections.ConfigDict, workdir: str
    ) -> Any:
        """Makes of the functions of an export what `evaluate` takes in place of the module.

        By default nothing, so that exports have no scores.

        Args:
            functions: by name, of the signatures or of `runtime_functions`: each a function without
                arguments that loads one, which takes and returns a dict of arrays.
            config: the resolved config.
            workdir: folder of the run.

        Returns:
            The object, or `None` where the functions give no answers that have a score.
        """

    def evaluate(self, module: Any, config: ml_collections.ConfigDict, split: str) -> Evaluation:
        """Scores what `serving` returns on `"test"` or `"validation"`."""

    def example(self, module: Any, config: ml_collections.ConfigDict) -> str:
        """Runs one example through what `serving` returns, as Markdown for the model card."""

    def own_test(self, config: ml_collections.ConfigDict, path: str) -> Mapping[str, Any]:
        """Returns the keys that read data of a user as the test set; by default it cannot be.

        Args:
            config: the resolved config.
            path: what the user gave: a file, a folder, or files with commas between them.

        Returns:
            Dict of keys of `config.data` with the values that read it.

        Raises:
            ValueError: when the task cannot read this.
        """

    def leaks(self, config: ml_collections.ConfigDict, own: ml_collections.ConfigDict) -> str:
        """Counts what is in the test set of a user and was trained on too; by default nothing.

        Args:
            config: the resolved config of the run, whose `data` say what was trained on.
            own: the same with what `own_test` returned.

        Returns:
            A sentence, or nothing.

        Raises:
            ValueError: when the data cannot be read.
        """

    def card(self, config: ml_collections.ConfigDict, workdir: str) -> Mapping[str, str]:
        """Writes what the task knows for the model card of an export; by default nothing.

        Returns:
            Dict of Markdown by title: what the model is for, what it does to its input, code that
            uses the SavedModel beside it.
        """

    def write_ctranslate2(
        self,
        module: Any,
        config: ml_collections.ConfigDict,
        folder: Path,
        quantization: str,
    ) -> float:
        """Writes what `serving` returns for CTranslate2; by default it cannot be.

        Args:
            module: what `serving` returns.
            config: the resolved config.
            folder: path of an empty folder.
            quantization: what weights become, one of `kerasformer.interop.ctranslate2`'s.

        Returns:
            The largest difference of scores in float32.

        Raises:
            ValueError: when CTranslate2 cannot express it, or answers otherwise.
        """

    def show_batch(
        self,
        batches: tf.data.Dataset,
        config: ml_collections.ConfigDict,
        workdir: str,
        picture: str,
    ) -> str:
        """Shows what the model will see, for a dry run.

        Args:
            batches: the training batches from the first one on.
            config: the resolved config.
            workdir: folder with the files of `PREPARED`.
            picture: path of a picture, which may be drawn.

        Returns:
            The batch as text, or a sentence that says what the picture shows.
        """


def settle(config: ml_collections.ConfigDict) -> Sequence[str]:
    """Changes nothing: the default of `Task.settle`."""
    return ()


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Chooses nothing: the default of `Task.resolve`."""
    return config


def begin(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str, is_new: bool
) -> keras.Model:
    """Trains what `build` returned as it is: the default of `Task.begin`."""
    return model


def finish(sums: Mapping[str, Any]) -> Mapping[str, float]:
    """Divides pairs `(sum, count)` of scalars: the default of `Task.finish`.

    Example:

    >>> finish({"loss": (6.0, 4.0)})
    {'loss': 1.5}
    """
    return {name: float(total) / float(count) for name, (total, count) in sums.items()}


def after_step(model: keras.Model, config: ml_collections.ConfigDict) -> None:
    """Leaves the model as the optimizer made it: the default of `Task.after_step`."""
    return  # AutoGraph cannot read a function of a docstring alone.


def inputs(
    module: Any, config: ml_collections.ConfigDict, split: str, count: int
) -> list[dict[str, Any]]:
    """Reads no inputs: the default of `Task.inputs`."""
    return []


def exported(
    functions: Mapping[str, Callable], config: ml_collections.ConfigDict, workdir: str
) -> Any:
    """Makes nothing that has scores: the default of `Task.exported`."""
    return None


def own_test(config: ml_collections.ConfigDict, path: str) -> Mapping[str, Any]:
    """Reads no data of a user: the default of `Task.own_test`."""
    raise ValueError(f"Expected a task that reads own data, received {path} with {config.task}.")


def leaks(config: ml_collections.ConfigDict, own: ml_collections.ConfigDict) -> str:
    """Counts nothing: the default of `Task.leaks`."""
    return ""


def card(config: ml_collections.ConfigDict, workdir: str) -> Mapping[str, str]:
    """Adds nothing to the model card: the default of `Task.card`."""
    return {}


def write_ctranslate2(
    module: Any, config: ml_collections.ConfigDict, folder: Path, quantization: str
) -> float:
    """Writes nothing: the default of `Task.write_ctranslate2`."""
    raise ValueError(
        "Expected a translator with format='ctranslate2', received a run of the task "
        f"{config.task!r}."
    )


def validation_scorer(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str
) -> Callable[[], dict[str, float]]:
    """Scores nothing, because `finish` returns all metrics: `Task.validation_scorer`'s default."""
    return dict
