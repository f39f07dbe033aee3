"""The registry: what some plugins contribute, by name, and which variants a text stands for."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.dataset import DatasetVariant
from aezoo.contract.executor import Executor
from aezoo.contract.hyperparameters import VariantText, parse_variant
from aezoo.contract.metric import Metric
from aezoo.errors import (
    AezooError,
    ContractError,
    did_you_mean,
    is_dataset,
    no_architecture,
    no_match,
    spelled,
)
from aezoo.registry.catalogue import matching
from aezoo.registry.data import read_dataset
from aezoo.registry.plugin import Plugin

T = TypeVar("T")
_OWN = {"aezoo_executors": ("local",)}
"""What no plugin contributes, as it is aezoo's own."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A plugin that was left out whole, broken or blocked, and why, in one line."""

    name: str
    distribution: str
    version: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.name} of {self.distribution} {self.version} was left out: {self.reason}"


class Registry:
    """What all plugins contribute, under the names by which it is asked for."""

    def __init__(
        self,
        plugins: Sequence[Plugin],
        broken: Sequence[LeftOut] = (),
        blocked: Sequence[LeftOut] = (),
        notices: Sequence[str] = (),
    ) -> None:
        self.plugins = tuple(plugins)
        self.broken = tuple(broken)
        self.blocked = tuple(blocked)
        self.notices = tuple(notices)

    def plus(self, plugin: Plugin) -> "Registry":
        """Return a registry with one more plugin.

        Raises:
            ContractError: it claims what another one has.
        """
        refuse_claims(plugin, self.plugins)
        return Registry([*self.plugins, plugin], self.broken, self.blocked, self.notices)

    @property
    def warnings(self) -> list[str]:
        """What the user should know of the plugins, a line each: those left out, and what is deprecated in others."""
        deprecated = [f"{plugin}: {text}" for plugin in self.plugins for text in plugin.warnings]
        return [*self.notices, *map(str, self.broken), *deprecated]

    @cached_property
    def architectures(self) -> dict[str, tuple[Architecture, Plugin]]:
        """Each architecture by its label: its name, with ``distribution:`` before it where several claim one."""
        claims = [(architecture, plugin) for plugin in self.plugins for architecture in plugin.architectures]
        names = [architecture.name for architecture, _ in claims]
        return {
            (f"{plugin.distribution}:" if names.count(architecture.name) > 1 else "") + architecture.name: (
                architecture,
                plugin,
            )
            for architecture, plugin in claims
        }

    def plugin(self, variant: Variant) -> Plugin:
        """Return the plugin that contributes a variant's architecture."""
        return self.architectures[variant.label][1]

    def baseline(self, kind: str) -> str | None:
        """Return the label of the architecture that stands for a baseline, or None where its plugin is missing."""
        return next(
            (label for label, (architecture, _) in self.architectures.items() if architecture.baseline == kind), None
        )

    def speed_reference(self) -> Variant | None:
        """Return the variant that speeds are given relative to, or None where its plugin is missing."""
        labels = (label for label, (architecture, _) in self.architectures.items() if architecture.speed_reference)
        return next((self._variant(label, {}) for label in labels), None)

    def dataset(self, text: str) -> DatasetVariant:
        """Return the data set that a text names: ``mnist-5k``, ``images[path=photos,size=64]``, or a path alone.

        Raises:
            AezooError: there is none, several plugins claim the name, a hyperparameter is wrong, or nothing takes a
                path of that kind.
        """
        return self._dataset(text)[0]

    def dataset_plugin(self, text: str) -> Plugin:
        """Return the plugin that contributes a data set."""
        return self._dataset(text)[1]

    def _dataset(self, text: str) -> tuple[DatasetVariant, Plugin]:
        name, settings = read_dataset(text, [dataset for dataset, _ in self.contributed("aezoo_datasets")])
        dataset, plugin = self._named("aezoo_datasets", "data set", name)
        settings = _as_declared(settings, dataset.hyperparameters)
        return DatasetVariant.of(dataset, settings, name[: -len(dataset.name)] + dataset.name), plugin

    def metric(self, name: str) -> tuple[Metric, Plugin]:
        """Return a metric, with its plugin, by name, or by ``distribution:name``.

        Raises:
            AezooError: there is none, or several plugins claim the name.
        """
        return self._named("aezoo_metrics", "metric", name)

    def executor(self, name: str) -> Executor:
        """Return an executor by name, or by ``distribution:name``.

        Raises:
            AezooError: there is none, or several plugins claim the name.
        """
        executor: Executor = self._named("aezoo_executors", "executor", name)[0]
        return executor

    def contributed(self, hook: str) -> list[tuple[Any, Plugin]]:
        """Return all that plugins contribute through a hook, each with its plugin."""
        return [(contribution, plugin) for plugin in self.plugins for contribution in plugin.contributed.get(hook, ())]

    def _named(self, hook: str, kind: str, name: str) -> tuple[Any, Plugin]:
        parsed = parse_variant(name)
        if parsed.settings is not None:
            raise AezooError(f"a {kind} has no hyperparameters, but got {name!r}; give {name.partition('[')[0]}")
        everything = self.contributed(hook)
        wanted = spelled(parsed.name, (contribution.name for contribution, _ in everything))
        claims = [
            (contribution, plugin)
            for contribution, plugin in everything
            if contribution.name == wanted and parsed.distribution in (None, plugin.distribution)
        ]
        if not claims:
            option = hook.removeprefix("aezoo_")
            names = sorted([*(contribution.name for contribution, _ in everything), *_OWN.get(hook, ())])
            here = (
                f" A file or folder is given as a path: ./{name}."
                if option == "datasets" and Path(name).exists()
                else ""
            )
            raise AezooError(
                f"no {kind} {name!r}; `aezoo list --{option}` shows them all." + (here or did_you_mean(name, names))
            )
        return _only(claims, kind, name)

    def resolve(self, text: str) -> Variant:
        """Return the one variant that a text names; a bare name is the architecture with its defaults.

        Raises:
            AezooError: no such architecture, an ambiguous one, or a wrong hyperparameter.
        """
        parsed = parse_variant(text)
        label = self._label(parsed, text)
        return self._variant(label, parsed.settings or {})

    def select(self, texts: Iterable[str], *, latent_dims: Sequence[int] = ()) -> list[Variant]:
        """Return the variants that texts name, each once, in the order of the registry's architectures.

        A bare name or a pattern such as ``conv*`` stands for the declared variants of the architectures that match;
        brackets, also empty ones, name one variant. With `latent_dims`, each architecture that has the
        hyperparameter ``latent_dim`` takes those values in place of what was declared or given.

        Raises:
            AezooError: nothing matches a text, or a text is wrong.
        """
        variants: dict[str, Variant] = {}
        for text in texts:
            for variant in self._matching(text):
                for swept in self._sweep(variant, latent_dims):
                    variants.setdefault(swept.text, swept)
        order = list(self.architectures)
        return sorted(variants.values(), key=lambda variant: order.index(variant.label))

    def undeclared(self, texts: Iterable[str]) -> list[str]:
        """Return the architectures that patterns match and that declare no variants, so that `select` has none."""
        labels = (label for text in texts if is_pattern(text) for label in matching(self.architectures, text))
        return [label for label in dict.fromkeys(labels) if not self.architectures[label][0].variants]

    def _matching(self, text: str) -> Iterator[Variant]:
        if is_pattern(text):
            labels = matching(self.architectures, text)
            if not labels:
                raise no_match(text, self.architectures)
            for label in labels:
                yield from self._declared(label)
            return
        parsed = parse_variant(text)
        label = self._label(parsed, text)
        if parsed.settings is None and self.architectures[label][0].variants:
            yield from self._declared(label)
        else:
            yield self._variant(label, parsed.settings or {})

    def _declared(self, label: str) -> Iterator[Variant]:
        for settings in self.architectures[label][0].variants:
            yield self._variant(label, settings)

    def _sweep(self, variant: Variant, latent_dims: Sequence[int]) -> Iterator[Variant]:
        if not latent_dims or "latent_dim" not in variant.hyperparameters:
            yield variant
            return
        for latent_dim in latent_dims:
            yield self._variant(variant.label, {**variant.hyperparameters, "latent_dim": latent_dim})

    def _label(self, parsed: VariantText, text: str) -> str:
        wanted = spelled(parsed.name, (architecture.name for architecture, _ in self.architectures.values()))
        claims = [
            (label, plugin)
            for label, (architecture, plugin) in self.architectures.items()
            if architecture.name == wanted and parsed.distribution in (None, plugin.distribution)
        ]
        if not claims:
            name = f"{parsed.distribution}:{parsed.name}" if parsed.distribution else parsed.name
            left_out = [plugin for plugin in (*self.blocked, *self.broken) if plugin.name == parsed.name]
            if left_out:
                raise AezooError(f"no architecture {name!r}: {left_out[0]}")
            if any(dataset.name == name for dataset, _ in self.contributed("aezoo_datasets")):
                raise is_dataset(name)
            raise no_architecture(name, self.architectures)
        return _only(claims, "architecture", text)[0]

    def _variant(self, label: str, settings: Mapping[str, Any]) -> Variant:
        architecture = self.architectures[label][0]
        values = architecture.check(_as_declared(settings, architecture.hyperparameters))
        return Variant(architecture=architecture, hyperparameters=values, label=label)


def _as_declared(settings: Mapping[str, Any], declared: Collection[str]) -> dict[str, Any]:
    """Return settings by the names of the declared hyperparameters, whose capitals do not matter.

    Raises:
        AezooError: one is given twice.
    """
    renamed = {spelled(name, declared): value for name, value in settings.items()}
    if len(renamed) < len(settings):
        raise AezooError(f"one hyperparameter is given twice among {', '.join(settings)}")
    return renamed


def is_pattern(text: str) -> bool:
    """Say whether a text stands for all architectures that match it, such as ``conv*``, and names none."""
    return "[" not in text and any(character in text for character in "*?")


def _only(claims: Sequence[tuple[T, Plugin]], kind: str, name: str) -> tuple[T, Plugin]:
    if len(claims) > 1:
        owners = [f"{plugin.distribution}:{name}" for _, plugin in claims]
        raise AezooError(f"{len(claims)} plugins claim the {kind} {name!r}: say which, {' or '.join(owners)}")
    return claims[0]


def refuse_claims(plugin: Plugin, earlier: Sequence[Plugin]) -> None:
    """Refuse a name that the same distribution gave already, and a part in every table that is taken."""
    if any(executor.name == "local" for executor in plugin.contributed.get("aezoo_executors", ())):
        raise ContractError("the executor 'local' is aezoo's own; choose another name")
    for other in earlier:
        mine, theirs = plugin.architectures, other.architectures
        names = {architecture.name for architecture in mine} & {architecture.name for architecture in theirs}
        if names and other.distribution == plugin.distribution:
            raise ContractError(f"plugin {other.name} of the same distribution has {min(names)!r} already")
        baselines = {architecture.baseline for architecture in mine if architecture.baseline} & {
            architecture.baseline for architecture in theirs
        }
        if baselines:
            raise ContractError(f"the baseline {min(map(str, baselines))!r} belongs to {other.distribution}")
        if all(any(architecture.speed_reference for architecture in some) for some in (mine, theirs)):
            raise ContractError(f"the reference for speeds belongs to {other.distribution}")
