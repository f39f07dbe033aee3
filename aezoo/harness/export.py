"""A trained network leaves its run: a folder that stands alone, with a card, and graphs of it where they are wanted."""

from pathlib import Path

import numpy as np

from aezoo.contract.hyperparameters import without_folders
from aezoo.errors import plain
from aezoo.harness.graphs import Graphs
from aezoo.harness.model import Model, as_image
from aezoo.run.again import again
from aezoo.run.files import new_files, write_bytes, write_json, write_text
from aezoo.run.model import CARD, CONFIG, PICTURE, WEIGHTS
from aezoo.run.store import RunDirectory
from aezoo.run.weights import pack
from aezoo.table.render import render
from aezoo.table.rows import summarise


def export_folder(model: Model, out: Path, source: Path, graphs: Graphs | None = None) -> Path:
    """Write a network into a folder that stands alone, whole or not at all; of paths in it the last part alone.

    Args:
        model: The network.
        out: The folder; it must not be there, or be empty.
        source: The run that it comes out of, or the folder: the card says what its run says of it.
        graphs: What else goes into the folder, or why it does not.

    Raises:
        AezooError: there is something at `out`, or it cannot be written.
    """
    told = model.config
    told = told.model_copy(
        update={
            "dataset": told.dataset.model_copy(update={"name": without_folders(told.dataset.name)}),
            "recipe": told.recipe.change(dataset=without_folders(told.recipe.dataset)),
            "plugin": told.plugin.model_copy(update={"place": told.plugin.place and Path(told.plugin.place).name}),
        }
    )
    model = Model(model.module, told)
    with new_files(out) as folder:
        write_bytes(folder / WEIGHTS, pack(model.module))
        write_json(folder / CONFIG, model.config)
        for name, graph in (graphs.contents if graphs else {}).items():
            write_bytes(folder / name, graph)
        write_text(folder / CARD, _card(model, source, folder, graphs))
    return out


def _card(model: Model, source: Path, folder: Path, graphs: Graphs | None) -> str:
    config = model.config
    data, made = config.dataset, config.environment
    shape = "x".join(map(str, config.image_shape))
    latent = "none" if config.latent_shape is None else "x".join(map(str, config.latent_shape))
    recipe = config.recipe.change(lr=config.lr)
    facts = [
        ("variant", f"`{config.variant}`"),
        ("plugin", f"{config.plugin.distribution} {config.plugin.version}, source {config.plugin.source_sha256[:12]}"),
        ("images", f"{shape}, {data.name}, {data.num_train:,} to train, {data.num_test:,} to test"),
        ("latent", latent),
        ("parameters", f"{config.num_params:,}"),
        ("test MSE", f"{config.test_mse:.6g} (this seed, {config.seed})"),
        ("recipe", f"{recipe.name} ({config.fingerprint}), {recipe.updates}"),
        ("made with", f"aezoo {made.aezoo}, torch {made.torch}, {made.device_name}"),
    ]
    lines = [f"# {config.variant}", "", "| | |", "|---|---|", *(f"| {name} | {plain(text)} |" for name, text in facts)]
    if (source / "run.json").is_file():
        lines += ["", *_of_run(model, source, folder)]
    if graphs is not None:
        lines += ["", *_of_graphs(graphs)]
    lines += [
        "",
        "```python",
        "import aezoo",
        "",
        'model = aezoo.load("FOLDER")  # this folder; nothing in it is code, and nothing is unpickled',
        "latents = model.encode(images)  # arrays, tensors, PIL images or paths",
        "seen = model.reconstruct(images)",
        "```",
        "",
        "On a terminal: `aezoo reconstruct FOLDER photos -o seen`, `aezoo encode`, `aezoo score`, `aezoo export`.",
    ]
    return "\n".join(lines) + "\n"


def _of_run(model: Model, path: Path, folder: Path) -> list[str]:
    """Return what its run says of it: its row of the table, its reconstructions, and the line that makes it again."""
    run = RunDirectory(path).load()
    table = summarise(run)
    rows = table[table["variant"] == model.config.variant].dropna(axis=1, how="all")
    lines = ["Over all seeds of its run, with the 95 % interval:", "", render(rows, "github").strip(), ""]
    images = run.read_images()
    if images is not None:
        originals = np.stack([images.pixels[place] for place in images.choice.images])
        seen = model.reconstruct(originals)
        top, bottom = (np.concatenate(list(part), axis=2) for part in (originals / 255.0, seen))
        # Small images as large pixels: each a hundred or so on a side.
        scale = max(1, round(96 / max(originals.shape[2:])))
        both = np.concatenate([top, bottom], axis=1).repeat(scale, axis=1).repeat(scale, axis=2)
        as_image(both).save(folder / PICTURE)
        lines += [f"![test images, and below them their reconstructions]({PICTURE})", ""]
    recipe = run.info().recipe.change(dataset=model.config.dataset.name)
    how = again(model.config.variant, recipe, run.records().get(model.config.trial_id))
    if how.recipe_file is None:
        return [*lines, f"Trained again by `{plain(how.line)}`."]
    told = f"Trained again by `{plain(how.line)}`, with this `recipe.toml`:"
    return [*lines, told, "", "```toml", how.recipe_file.strip(), "```"]


def _of_graphs(graphs: Graphs) -> list[str]:
    if graphs.reason is not None:
        return [f"Not exported as {graphs.kind}: {plain(graphs.reason)}."]
    lines = [f"- `{name}.{graphs.kind}`: {difference:.2g}" for name, difference in graphs.differences.items()]
    return [
        "Graphs, and how far their numbers are at the most from the network's. Images go in as uint8, (B, C, H, W), in "
        "batches of any size; latents as the encoder gives them.",
        "",
        *lines,
    ]
