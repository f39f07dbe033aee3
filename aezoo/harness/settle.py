"""Settle claims of the form ``A < B``: add seeds to a run until the evidence decides, or a budget ends.

Looking often must not make it wrong: look k spends 6 / (pi k)^2 of the error, and so all looks together 5 % at most,
by a union bound; within a look the claims share it evenly, so that all intervals of a card hold together. A look takes
so many seeds of each variant, the first ones, however many the run has: so calling again, with more to spend, takes
the same looks again.
"""

import contextlib
import itertools
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aezoo.check.case import latent_shape
from aezoo.check.suite import sample_images
from aezoo.contract.architecture import ImageShape
from aezoo.contract.dataset import find_data_dir
from aezoo.contract.network import discrete, is_sparse, to_float
from aezoo.contract.recipe import Recipe, read_recipe
from aezoo.errors import AezooError, did_you_mean, duration
from aezoo.harness.call import bench
from aezoo.harness.observer import LineObserver, Observer
from aezoo.registry.discovery import discover
from aezoo.registry.names import Registry
from aezoo.registry.outside import extend
from aezoo.run.card import Card, Finding, Verdict
from aezoo.run.files import digest, write_json, write_text
from aezoo.run.records import now
from aezoo.run.store import RunDirectory
from aezoo.table import rows, views
from aezoo.table.statistics import CONFIDENCE, Errors
from aezoo.train.build import build

GROWTH = 1.5
"""By how much seeds grow from one look to the next: few looks, and little of the error spent on each."""
GROUP_SEEDS = 3
"""What settling a group begins with: the seeds of the default recipe."""
MAX_SEEDS = 20
MARGIN = 1.0
_CLAIM = re.compile(r"\s*(?P<a>[^<@\s][^<@]*?)\s*<\s*(?P<b>[^<@\s][^<@]*?)\s*(?:@\s*(?P<size>\d+))?\s*")


class Claim(NamedTuple):
    """That one variant's loss is lower than another's, each by its canonical text."""

    lower: str
    higher: str


def error_of(look: int) -> float:
    """Return the error that a look, from 1 on, may spend: over all looks 5 %."""
    return (1 - CONFIDENCE) * 6 / (math.pi * look) ** 2


def judge(
    claims: Sequence[Claim], errors: Mapping[str, Errors | None], *, look: int, margin: float = MARGIN
) -> list[Finding]:
    """Say of each claim what the evidence of one look supports.

    Args:
        claims: All that are to be settled together, those that an earlier look decided among them.
        errors: By variant; None where none is known.
        look: Its number, from 1 on.
        margin: Per cent of a loss within which two are the same.
    """
    level = error_of(look)
    pairs = [(errors.get(claim.lower), errors.get(claim.higher)) for claim in claims]
    ratios = [a.over(b) if a and b and a.knows_seeds and b.knows_seeds else None for a, b in pairs]
    findings = []
    for claim, (a, b), ratio in zip(claims, pairs, ratios, strict=True):
        half = ratio.half_at(level / len(claims)) if ratio else None
        low = high = None
        verdict: Verdict = "not decided"
        if ratio and half is not None:
            low, high = (100 * math.expm1(ratio.value + sign * half) for sign in (-1, 1))
            if max(half - ratio.value, half + ratio.value) <= math.log1p(margin / 100):
                verdict = "the same"
            elif half < abs(ratio.value):
                verdict = "better" if ratio.value < 0 else "worse"
        seeds = (len(a.by_seed) if a else 0, len(b.by_seed) if b else 0)
        findings.append(
            Finding(
                lower=claim.lower, higher=claim.higher, verdict=verdict, percent_low=low, percent_high=high,
                seeds=seeds, look=look,
            )
        )  # fmt: skip
    return findings


def settle(
    claims: Sequence[str] = (),
    *,
    group: str | None = None,
    max_seeds: int = MAX_SEEDS,
    minutes: float | None = None,
    margin: float = MARGIN,
    again: str | None = None,
    observer: Observer | None = None,
    **settings: Any,
) -> tuple[Card, Path]:
    """Add seeds until the evidence decides each claim, or until a budget ends; write a card, and return it and its run.

    Args:
        claims: Such as ``resnet < vit``, or ``conv < mlp @16``: the declared variants with latents of 16 numbers.
        group: In place of claims: all pairs of this code group of the run `out`, such as ``16``.
        max_seeds: Of each variant, at most.
        minutes: No look is begun that would end, by what the last one took, after so many.
        margin: Per cent of a loss within which two are the same.
        again: The line that the card gives for coming to it again.
        observer: Hears what happens.
        settings: Those of `aezoo.bench`, `recipe` and `out` among them; throughput is not measured.

    Raises:
        AezooError: a claim cannot be read, or names what there is not; or the run has no such group.
    """
    observer = observer or LineObserver()
    if group is None:
        recipe = _recipe(settings.get("recipe", "default"))
        stated = _stated(claims, recipe, settings)
    else:
        run_of_group = RunDirectory(settings.get("out") or "").require()
        recipe, stated = _of_group(run_of_group, group)
        settings = {**settings, "device": run_of_group.info().device}
    if not recipe.seeds <= max_seeds or not margin > 0:
        raise AezooError(
            f"settling begins with the recipe's {recipe.seeds} seeds of each variant: give --max-seeds of at least "
            f"that, and a --margin above 0, but got {max_seeds} and {margin:g}"
        )
    started = time.monotonic()
    trials = 0
    settled: dict[Claim, Finding] = {}
    seeds = recipe.seeds
    for look in itertools.count(1):
        begun = time.monotonic()
        names = dict.fromkeys(name for claim in stated if claim not in settled for name in claim)
        wanted = {**settings, "recipe": recipe.change(seeds=seeds), "timing": False}
        run = bench([name if "[" in name else f"{name}[]" for name in names], observer=observer, **wanted)
        trials += run.trials
        snapshot = RunDirectory(run.path).load()
        errors = rows.ErrorsByVariant(snapshot, seeds)
        findings = dict(zip(stated, judge(stated, errors, look=look, margin=margin), strict=True))
        # What an earlier look decided stays as it was decided.
        settled = {claim: found for claim, found in findings.items() if found.verdict != "not decided"} | settled
        left = len(stated) - len(settled)
        spent, last = time.monotonic() - started, time.monotonic() - begun
        if not left or seeds >= max_seeds or (minutes is not None and spent + GROWTH * last > 60 * minutes):
            break
        seeds = min(max_seeds, math.ceil(GROWTH * seeds))
        observer.stage(f"{left} of {len(stated)} claims are open: going on to {seeds} seeds")
    card = Card(
        findings=list((findings | settled).values()),
        margin_percent=margin,
        fingerprint=snapshot.info().fingerprint,
        trials=trials,
        seconds=time.monotonic() - started,
        again=again or f"aezoo.settle({list(map(_text, stated))!r}, out={str(run.path)!r}, ...)",
        made_at=now(),
    )
    name = digest(*map(_text, stated), margin)
    write_json(run.path / "cards" / f"{name}.json", card)
    write_text(run.path / "cards" / f"{name}.txt", text_of(card) + "\n")
    return card, run.path


def text_of(card: Card) -> str:
    """Write a card for a person."""
    return "\n".join([
        *(finding.line for finding in card.findings),
        f"the same: within {card.margin_percent:g} %; each interval holds at 95 % for all claims and looks together",
        f"cost: {card.trials} trials, {duration(card.seconds)}; recipe {card.fingerprint}",
        f"again: {card.again}",
    ])  # fmt: skip


def _text(claim: Claim) -> str:
    return f"{claim.lower} < {claim.higher}"


def _recipe(recipe: Recipe | str | Path) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else read_recipe(recipe)


def _stated(claims: Sequence[str], recipe: Recipe, settings: Mapping[str, Any]) -> list[Claim]:
    """Read claims, each once.

    Raises:
        AezooError: one cannot be read, names what there is not, or holds a variant against itself.
    """
    registry, _ = extend(discover(*settings.get("block", ())), (), settings.get("plugins", ()))
    stated: dict[Claim, None] = {}
    for text in claims:
        match = _CLAIM.fullmatch(text)
        if match is None:
            raise AezooError(f"not a claim: {text!r}; write A < B, such as 'resnet < vit', or 'conv < mlp @16'")
        sides = [[registry.resolve(name).text] for name in match.group("a", "b")] if match["size"] is None else None
        if sides is None:
            shape = registry.dataset(recipe.dataset).checked(find_data_dir(settings.get("data_dir"))).shape
            sides = [_of_size(registry, name, int(match["size"]), shape) for name in match.group("a", "b")]
        for claim in itertools.starmap(Claim, itertools.product(*sides)):
            if claim.lower == claim.higher:
                raise AezooError(f"{text!r} holds {claim.lower} against itself; name two variants")
            stated[claim] = None
    if not stated:
        raise AezooError("nothing to settle: give a claim, such as 'resnet < vit', or a run and --group")
    return list(stated)


def _of_size(registry: Registry, name: str, size: int, image_shape: ImageShape) -> list[str]:
    """Return the declared variants of a name or pattern whose latents are of so many numbers.

    Raises:
        AezooError: there is none.
    """
    images_NCHW = sample_images(image_shape, count=2)
    sizes: dict[str, int | None] = {}
    for variant in registry.select([name]):
        with contextlib.suppress(AezooError):
            module = build(variant, images_NCHW, seed=0).eval()
            shape = latent_shape(module, to_float(images_NCHW))
            continuous = not is_sparse(module) and discrete(module) is None
            sizes[variant.text] = math.prod(shape) if shape is not None and continuous else None
    chosen = [text for text, found in sizes.items() if found == size]
    if not chosen:
        there = ", ".join(f"{text} ({found})" for text, found in sizes.items() if found is not None) or "none with any"
        raise AezooError(f"no declared variant of {name} has a latent of {size} numbers; there are {there}")
    return chosen


def _of_group(run: RunDirectory, group: str) -> tuple[Recipe, list[Claim]]:
    """Return a run's recipe, with the seeds to begin with, and all pairs of a code group, the lower loss first.

    Raises:
        AezooError: it has no such group, or nothing in it to compare.
    """
    run = run.load()
    table = views.by_group(run)
    ranked = table[table["group_rank"].notna()]
    names = list(dict.fromkeys(ranked["group"]))
    matching = [name for name in names if name == group or name.split()[:1] == [group]]
    if len(matching) != 1:
        raise AezooError(
            f"{run.path} has no code group {group!r}; it has {', '.join(names)}." + did_you_mean(group, names)
        )
    # A row of before, made otherwise, is no variant that seeds can be added to.
    members = [name for name in ranked.loc[ranked["group"] == matching[0], "variant"] if name not in run.info().earlier]
    if len(members) < 2:
        raise AezooError(f"in {run.path} the code group {matching[0]} has {len(members)} variant: nothing to compare")
    # A later call, of a run that has more, begins as the first one did.
    return run.info().recipe.change(seeds=GROUP_SEEDS), list(
        itertools.starmap(Claim, itertools.combinations(members, 2))
    )
