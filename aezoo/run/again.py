"""The line that makes a variant's trials again."""

import shlex
from dataclasses import dataclass

from aezoo.contract.recipe import BUILT_IN, Recipe, read_recipe
from aezoo.run.records import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Again:
    """A line of the command line; `recipe_file` is what `recipe.toml` must hold, where the line names it."""

    line: str
    recipe_file: str | None


def again(variant: str, recipe: Recipe, record: TrialRecord | None, out: str = "again") -> Again:
    """Return the line that makes a variant's trials again, with the recipe by its name where it is a built-in one.

    Args:
        variant: Its text.
        recipe: That of the run.
        record: Of one of its trials, whose device and threads are taken; None where none has run.
        out: The folder that it goes into.
    """
    own = read_recipe(recipe.name) if recipe.name in BUILT_IN else None
    parts = ["aezoo", "bench", variant if "[" in variant else f"{variant}[]", "--recipe"]
    named = own is not None and own.change(dataset=recipe.dataset, seeds=recipe.seeds) == recipe
    if own is not None and named:
        parts += [recipe.name]
        parts += ["--dataset", recipe.dataset] if own.dataset != recipe.dataset else []
        parts += ["--seeds", str(recipe.seeds)] if own.seeds != recipe.seeds else []
    else:
        parts += ["recipe.toml"]
    if record is not None:
        parts += ["--device", record.device]
        parts += ["--threads", str(record.threads)] if record.threads != 1 else []
        parts += ["--processes-per-trial", str(record.processes)] if record.processes != 1 else []
        parts += ["--compile"] if record.compiled else []
    # By default a folder of its own: where the run is, its trials are done.
    return Again(line=shlex.join([*parts, "--out", out]), recipe_file=None if named else recipe.to_toml())
