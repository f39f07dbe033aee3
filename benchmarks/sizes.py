"""Which sizes of image does each architecture take, and what does it cost there? By the preflight of a bench.

    python benchmarks/sizes.py --json sizes.json --markdown benchmarks/sizes.md

The images are made (`dead-leaves`), the settings those of the recipe `large`: the seconds are one trial's, on one core.
A preflight takes a few steps and trains nothing; closed forms are fitted to all images, as their trials do.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tabulate

from aezoo.contract.recipe import read_recipe
from aezoo.errors import AezooError
from aezoo.harness.call import preview
from aezoo.harness.preview import PreviewRow
from aezoo.machine import capture, choose_device
from aezoo.registry.discovery import discover
from aezoo.run.records import Preflight

SHAPES = tuple((channels, side) for side in (28, 32, 64, 96, 128) for channels in (1, 3))
"""(channels, side)."""
SHOWN = ((3, 32), (3, 64), (3, 128))
"""Those whose costs the page has; the data have all."""
DEAR = {"num_params": 1e8, "mflop": math.inf, "peak_mb": 8e3, "seconds": 3600.0}
"""Above this a cost is marked; seconds are those of one trial on one core."""
TAKEN = "No size is refused. `unet` has no variant that a bench takes, and is left out."
PAGE = """\
# Sizes of images, and what each architecture costs there

Made by `benchmarks/sizes.py`, not edited by hand; the recipe `large`, on {machine}.

Which sizes an architecture takes with its defaults, and the numbers of its latent there (bits, where that is discrete):

{sizes}

What it costs: parameters; MFLOP of one image's reconstruction; MB that a few steps (of closed forms the fit) add to a
process; seconds of one trial, 1,000 steps of 64 images, on one core. **!** marks more than 10⁸ parameters, 8 GB or an
hour.

{costs}

{refused}
"""


def costs(architectures: Sequence[str], shape: tuple[int, int], count: int, device: str) -> Iterator[dict[str, Any]]:
    """Yield what each architecture, with its defaults, costs on square images, or why it does not take them."""
    channels, side = shape
    try:
        found = preview(
            [f"{name}[]" for name in architectures],
            recipe=read_recipe("large").change(seeds=1),
            dataset=f"dead-leaves[size={side},channels={channels},count={count}]",
            device=device,
            timing=False,
        )
    except AezooError as error:
        # One that refuses ends a call that names it.
        if len(architectures) == 1:
            yield {"architecture": architectures[0], "channels": channels, "side": side, "refused": str(error)}
        else:
            for name in architectures:
                yield from costs([name], shape, count, device)
        return
    rows = {row.variant: row for row in found.rows}
    for name in architectures:
        yield {"architecture": name, "channels": channels, "side": side, **_cost(rows[name])}


def _cost(row: PreviewRow) -> dict[str, Any]:
    facts = row.preflight
    if not isinstance(facts, Preflight):
        return {"refused": f"{facts.status}: {facts.reason}" if facts else "it was not tried"}
    peak = facts.peak_device_memory_bytes or facts.peak_memory_bytes
    return {
        "refused": None, "latent_shape": facts.latent_shape, "latent_size": facts.latent_size,
        "latent_bits": facts.latent_bits, "num_params": facts.num_params, "flops_per_image": facts.flops_per_image,
        "train_flops_per_image": facts.train_flops_per_image, "peak_mb": None if peak is None else peak / 1e6,
        "seconds": row.seconds,
    }  # fmt: skip


def page(figures: Sequence[dict[str, Any]], machine: str) -> str:
    """Return the figures as a page: which sizes are taken, the latent there, and the costs of some."""
    by_place = {(each["architecture"], each["channels"], each["side"]): each for each in figures}
    names = list(dict.fromkeys(each["architecture"] for each in figures))
    shapes = list(dict.fromkeys((each["channels"], each["side"]) for each in figures))
    shown = [shape for shape in SHOWN if shape in shapes]
    sizes = [[f"`{name}`", *(_latent(by_place[name, *shape]) for shape in shapes)] for name in names]
    costs_of = [[f"`{name}`", *(cell for shape in shown for cell in _dear(by_place[name, *shape]))] for name in names]
    heads = ["architecture", *(_text(*shape) for shape in shapes)]
    units = [
        "architecture",
        *(f"{what}, {_text(*shape)}" for shape in shown for what in ("params", "MFLOP", "MB", "s")),
    ]
    refused = [
        f"- `{each['architecture']}`, {_text(each['channels'], each['side'])}: {each['refused']}"
        for each in figures
        if each["refused"]
    ]
    return PAGE.format(
        machine=machine,
        sizes=tabulate.tabulate(sizes, heads, tablefmt="github"),
        costs=tabulate.tabulate(costs_of, units, tablefmt="github"),
        refused="\n".join(["Refused:\n", *refused] if refused else [TAKEN]),
    )


def _text(channels: int, side: int) -> str:
    return f"{channels}x{side}x{side}"


def _latent(figures: dict[str, Any]) -> str:
    if figures["refused"]:
        return "no"
    if figures["latent_bits"] is not None:
        return f"{figures['latent_bits']:.0f} bits"
    return "yes" if figures["latent_size"] is None else f"{figures['latent_size']:,}"


def _dear(figures: dict[str, Any]) -> list[str]:
    """Return the cells of an architecture's costs, those marked that are more than `DEAR`."""
    if figures["refused"]:
        return ["-"] * 4
    figures = {**figures, "mflop": figures["flops_per_image"] / 1e6}
    formats = {"num_params": ",.0f", "mflop": ",.1f", "peak_mb": ",.0f", "seconds": ",.0f"}
    return [
        "-" if figures[name] is None else f"{'**!** ' * (figures[name] > DEAR[name])}{figures[name]:{form}}"
        for name, form in formats.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", help="by default all")
    parser.add_argument("--sides", help="of those that the page has, such as 64,128")
    parser.add_argument("--count", type=int, default=4000, help="training images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--note", default="", help="what else is to be known of the machine, such as that it was not quiet"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    device = choose_device(given.device)
    architectures = given.architectures or list(
        dict.fromkeys(variant.architecture.name for variant in discover().select(["*"]))
    )
    sides = [int(side) for side in given.sides.split(",")] if given.sides else None
    figures: list[dict[str, Any]] = []
    for channels, side in SHAPES:
        if sides is None or side in sides:
            print(_text(channels, side), file=sys.stderr, flush=True)
            figures += costs(architectures, (channels, side), given.count, device)
            if given.json:
                given.json.write_text(json.dumps(figures, indent=1) + "\n")
    environment = capture(device, 1)
    note = given.note and f"; {given.note}"
    text = page(figures, f"{environment.device_name} ({device}), torch {environment.torch}{note}")
    print(text)
    if given.markdown:
        given.markdown.write_text(text)


if __name__ == "__main__":
    main()
