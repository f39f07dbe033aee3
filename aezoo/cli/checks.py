"""What is surely wrong in a call, refused before torch, which takes seconds, is imported."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aezoo.errors import (
    AezooError,
    another_recipe,
    is_dataset,
    no_architecture,
    no_hyperparameter,
    no_match,
    nothing_to_bench,
    spelled,
)
from aezoo.registry import catalogue
from aezoo.registry.texts import refuse_bare_file, refuse_no_variant

if TYPE_CHECKING:
    from aezoo.contract.dataset import DatasetVariant
    from aezoo.harness.request import Request


def check_names(variants: Sequence[str]) -> None:
    """Refuse what is no variant, and variants of architectures, and of hyperparameters, that nobody has.

    Only what is surely wrong is refused: all else is its plugin's to judge.

    Raises:
        AezooError: a file, an architecture or a hyperparameter is not there, a pattern matches none, or a text is no
            variant.
    """
    for text in variants:
        refuse_no_variant(text)
    points = catalogue.plugin_points()
    labels = catalogue.architectures(points)
    if labels is None:
        return
    names = {label.rpartition(":")[2] for label in labels}
    # Files, modules and distributions are looked for where they are.
    for text in [text for text in variants if re.fullmatch(r"[\w.*?-]+(\[.*)?", text)]:
        name = text.partition("[")[0]
        if name == text and re.search("[*?]", name):
            if not catalogue.matching(labels, name):
                raise no_match(text, labels)
        elif spelled(name, names) in names:
            _check_hyperparameters(spelled(name, names), text)
        elif not name.endswith(".py"):
            refuse_bare_file(text, names)
            if not catalogue.is_mentioned(name, points):
                raise no_architecture(name, labels)
            from aezoo.registry.discovery import discover_data

            if any(name == dataset.name for dataset, _ in discover_data().contributed("aezoo_datasets")):
                raise is_dataset(name)


_TYPES = {"int": int, "float": float, "bool": bool, "str": str}


def _check_hyperparameters(name: str, text: str) -> None:
    """Refuse a hyperparameter that an architecture has not, or does not take, where the kept listing says so."""
    from aezoo.contract.hyperparameters import Hyperparameter, parse_variant

    given = parse_variant(text).settings
    rows = catalogue.read(catalogue.key_of(catalogue.ARCHITECTURES, ())) if given else None
    for accepts in [row["accepts"] for row in rows or [] if row["architecture"] == name]:
        for each, value in (given or {}).items():
            known = spelled(each, accepts)
            if known not in accepts:
                raise no_hyperparameter(name, each, list(accepts))
            # What else may be accepted, such as one of several, its plugin says.
            if accepts[known] in _TYPES:
                Hyperparameter(name=known, annotation=_TYPES[accepts[known]]).check(value, name)


def check_request(request: "Request", fmt: str, columns: Sequence[str] | None = None) -> None:
    """Refuse what is surely wrong in a call, and a format or columns that are none, before torch is imported.

    Raises:
        AezooError: there is nothing to bench, nowhere to write, a run of another recipe, or no such data set, folder of
            data, metric, executor, device, format or column.
    """
    from aezoo.contract.dataset import find_data_dir
    from aezoo.harness.local import LOCAL
    from aezoo.machine import check_device
    from aezoo.registry.discovery import discover_data
    from aezoo.run.files import require_room

    if not (request.variants or request.every):
        raise nothing_to_bench()
    require_room(request.out or Path("results"))
    find_data_dir(request.data_dir)
    dataset = None
    try:
        registry = discover_data(*request.block)
        dataset = registry.dataset(request.recipe.dataset)
        for metric in request.recipe.metrics:
            registry.metric(metric)
        if request.executor != LOCAL.name:
            registry.executor(request.executor)
    except AezooError:
        # Another plugin may have it, and not say so in its own module.
        if catalogue.only_own(catalogue.plugin_points()) and not request.plugins:
            raise
    if dataset is not None:
        _check_run(request, dataset.skipping() if request.skip_bad else dataset)
    if request.executor == LOCAL.name:
        check_device(request.device)
    from aezoo.table.formats import check_format

    check_format(fmt)
    if columns is not None:
        from aezoo.table.cells import check_columns

        check_columns(columns, request.recipe.metrics)


def _check_run(request: "Request", dataset: "DatasetVariant") -> None:
    """Refuse a folder that holds a run of another recipe, as far as that shows before the images are read."""
    from aezoo.run.store import RunDirectory

    run = RunDirectory(request.out or Path())
    if request.out is None or not run.exists:
        return
    info, recipe = run.info(), request.recipe
    there = dict(info.loss_settings)
    asked = recipe.loss_settings(
        num_train=info.dataset.num_train, dataset_sha256=info.dataset.sha256, dataset=dataset.identity
    )
    if there.get("dataset") != dataset.identity and recipe.steps is None:
        # How many steps a budget of epochs is, its images will tell.
        del there["steps"], asked["steps"]
    if request.device != "auto":
        there["device"], asked["device"] = info.device, request.device
    error = another_recipe(run.path, there, asked)
    if error:
        raise error
