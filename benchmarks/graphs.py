"""Export every architecture as graphs, and say how far each is from its network, or why there is none.

    python benchmarks/graphs.py --json graphs.json

Networks are trained for a few steps first, the defaults of each architecture, on mnist-5k.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import tabulate

import aezoo
from aezoo.harness import graphs
from aezoo.registry.discovery import discover

FORMATS: tuple[Literal["onnx", "pt2"], ...] = ("onnx", "pt2")


def export(run: Path, variant: str) -> dict[str, Any]:
    """Export a network in each format: the largest difference of its graphs, or the reason, and the seconds."""
    found: dict[str, Any] = {"architecture": variant.removesuffix("[]")}
    model = aezoo.load(run, variant, device="cpu")
    for fmt in FORMATS:
        started = time.monotonic()
        made = graphs.export(model, fmt)
        found[fmt] = max(made.differences.values()) if made.reason is None else made.reason
        found[f"{fmt}_s"] = time.monotonic() - started
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", help="by default all")
    parser.add_argument("--dataset", default="mnist-5k")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    names = given.architectures or sorted({variant.architecture.name for variant in discover().select(["*"])})
    recipe = aezoo.Recipe(name="graphs", dataset=given.dataset, steps=given.steps)
    with tempfile.TemporaryDirectory() as folder:
        run = aezoo.bench(
            [f"{name}[]" for name in names], recipe=recipe,
            out=Path(folder) / "run", device="cpu", executor="inline", timing=False, report=False, weights="all",
        )  # fmt: skip
        rows = [export(run.path, f"{name}[]") for name in names]
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=("", ".0e", ".0f", ".0e", ".0f")))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
