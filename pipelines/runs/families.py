"""The families of models that a task offers; `config.model.name` chooses one of them."""

import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

import keras
import ml_collections

from pipelines.runs.choice import AUTO


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        model: what has `VARIANTS` and `from_variant`, which makes a Keras model.
        small, large: the variants that suit small data, and large ones.
        unread: arguments of other families that configs often hold and that this one does not
            have, so that one config serves several families. All others are refused.
    """

    model: Any
    small: str
    large: str
    unread: Collection[str] = ()


F = TypeVar("F", bound=Family)


class Families(dict[str, F]):
    """The families of a task by their names; configs of an older version mean the first one."""

    @property
    def default(self) -> str:
        """The name of the first family."""
        return next(iter(self))

    def of(self, config: ml_collections.ConfigDict) -> F:
        """Returns the family that a config names.

        Raises:
            ValueError: for an unknown name.
        """
        name = config.model.get("name", self.default)
        if name not in self:
            raise ValueError(
                f"Expected model.name to be one of {', '.join(self)}, received model.name={name!r}."
            )
        return self[name]

    def check_variant(self, config: ml_collections.ConfigDict) -> None:
        """Refuses an unknown name, and a variant that the named family does not have.

        Raises:
            ValueError: naming it.
        """
        variants, variant = self.of(config).model.VARIANTS, config.model.get("variant")
        if variant not in variants:
            raise ValueError(
                f"Expected model.variant to be one of {', '.join(variants)} with "
                f"model.name={config.model.name!r}, received model.variant={variant!r}."
            )

    def check_start(
        self, config: ml_collections.ConfigDict, first: ml_collections.ConfigDict
    ) -> None:
        """Refuses a run to begin with, `start.workdir`, whose model is of another family.

        Raises:
            ValueError: naming both.
        """
        name, other = (c.model.get("name", self.default) for c in (config, first))
        if name != other:
            raise ValueError(
                f"Expected start.workdir={config.start.workdir!r} to hold a run with "
                f"model.name={name!r}, received one with model.name={other!r}."
            )

    def left_out(self, config: ml_collections.ConfigDict) -> list[str]:
        """Lists the keys of `config.model` that the named family does not have."""
        unread = self.of(config).unread
        return [key for key, value in config.model.items() if key in unread and value != AUTO]

    def settle(self, config: ml_collections.ConfigDict, is_small: bool = True) -> list[str]:
        """Fits a config to the family that it names.

        A variant of another family, which a config file has where a flag gives another name,
        becomes one of this family. Arguments that the family does not have will not be read.

        Args:
            config: the config, which is changed.
            is_small: bool. Whether the small variant suits the data, or the large one.

        Returns:
            Sentences that say what was changed.

        Raises:
            ValueError: for an unknown name.
        """
        if config.model.get("name") == AUTO:
            return []
        sentences = []
        family, variant = self.of(config), config.model.get("variant")
        name = config.model.get("name", self.default)
        others = [f.model.VARIANTS for f in self.values()]
        if variant not in family.model.VARIANTS and any(variant in names for names in others):
            config.model.variant = family.small if is_small else family.large
            sentences.append(
                f"Chosen for model.name={name}, which has no {variant}: "
                f"model.variant={config.model.variant}"
            )
        if keys := ", ".join(f"model.{key}" for key in self.left_out(config)):
            sentences.append(f"Left out of model.name={name}, which has no use for them: {keys}")
        return sentences

    def make(
        self, config: ml_collections.ConfigDict, without: Collection[str] = (), **others
    ) -> keras.Model:
        """Makes the model that a config describes, unbuilt, with fresh weights.

        Args:
            config: the resolved config; `model` holds `name`, `variant` and any argument of the
                named model, and `train.precision` is its dtype policy.
            without: keys of `config.model` that are no arguments.
            **others: arguments of `from_variant` that do not stand in a config.

        Returns:
            A Keras model.

        Raises:
            ValueError: when `config.model` has a key that the model does not take.
        """
        unread = {*self.left_out(config), *without}
        arguments = {k: v for k, v in config.model.items() if k not in unread}
        try:
            return self.of(config).model.from_variant(
                **arguments, **others, dtype=config.train.precision
            )
        except TypeError as error:
            raise ValueError(f"config.model={config.model.to_dict()} is wrong: {error}.") from error
