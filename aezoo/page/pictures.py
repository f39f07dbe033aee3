"""The charts of a page as pictures: SVG and PNG, and the wall of reconstructions as PNG."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aezoo.page import charts
from aezoo.page.contents import ALL, contents
from aezoo.run.files import slug, write_bytes
from aezoo.run.store import RunDirectory

SCALE = 2.0
"""Pixels of a PNG for each of the page's."""
CELL = 44
"""Pixels of an image of the wall."""
TEXT = "#16191d"
Row = dict[str, Any]


def write(run: RunDirectory, folder: Path) -> list[Path]:
    """Write every chart of a run's page into a folder, as the page shows it at first, and return the files.

    Raises:
        AezooError: there is no run, or the folder cannot be written.
    """
    page = contents(run.load())
    data = page.data
    compiled, _ = charts.compiled()
    written: list[Path] = []
    where = "" if data["largest"] == ALL else f" ({data['largest']})"
    for name, chart, rows, titles in _drawn(data):
        filled = charts.retitled(charts.filled(compiled[chart], **rows), **titles)
        title = charts.TITLES.get(name, f"{name.partition('-')[0]} of {name.partition('-')[2]}")
        of_a_group = name in ("params", "train", "infer", "curves")
        heading = {"text": f"{data['title']}: {title}{where if of_a_group else ''}", "anchor": "start"}
        written += _write_chart(filled | {"background": "white", "title": heading}, name, folder)
    wall = _wall(data)
    if wall is not None:
        file = io.BytesIO()
        wall.save(file, "PNG")
        write_bytes(folder / "wall.png", file.getvalue())
        written.append(folder / "wall.png")
    return written


def _write_chart(chart: charts.Vega, name: str, folder: Path) -> list[Path]:
    import vl_convert

    svg = vl_convert.vega_to_svg(charts.without_canvas(chart)).replace("currentColor", TEXT)
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    write_bytes(paths[0], svg.encode())
    write_bytes(paths[1], vl_convert.svg_to_png(svg, scale=SCALE))
    return paths


def _drawn(data: dict[str, Any]) -> list[tuple[str, str, dict[str, list[Row]], dict[str, str]]]:
    """Return the name of each picture, its chart, the chart's rows, and the titles of its axes."""
    group = data["largest"]
    drawn: list[tuple[str, str, dict[str, list[Row]], dict[str, str]]] = []
    for name in charts.SCATTERS:
        own, front = points(data, name, group)
        if own:
            pca = sorted((row for row in own if row["pca"] and name == "numbers"), key=lambda row: row["x"])
            drawn.append((name, name, {"points": own, "front": front, "pca": pca}, {}))
    curves = _curves(data, group)
    if curves:
        drawn.append(("curves", "curves_linear_log", {"curves": curves}, {"x_title": "steps"}))
    for row in _in_panels(data):
        drawn += _panel(data, row)
    return drawn


def _in_panels(data: dict[str, Any]) -> list[Row]:
    """Return the rows whose latents are drawn: the best with two numbers, the best of the largest group, its PCA."""
    rows = [
        row
        for row in data["rows"]
        if row["mse"] is not None and "latents" in data["looks"]["variants"].get(row["id"], {})
    ]
    best = [row for row in rows if row["group"] == data["largest"]]
    chosen = [
        next((row for row in rows if row["group"] == "2 numbers" and not row["pca"]), None),
        *best[:1],
        next((row for row in best if row["pca"]), None),
    ]
    return list({row["id"]: row for row in chosen if row}.values())


def _panel(data: dict[str, Any], row: Row) -> list[tuple[str, str, dict[str, list[Row]], dict[str, str]]]:
    """Return the charts of a variant's latent space, and of how its units or codes are used."""
    look = data["looks"]["variants"][row["id"]]
    latents = look["latents"]
    numbers = latents["numbers"]
    values = np.frombuffer(base64.b64decode(latents["units"]), "<i2").reshape(-1, numbers) / 32767 * latents["scale"]
    labels = data["looks"]["images"]["latent_labels"]
    shown = [
        {"x": x, "y": rest[0] if rest else 0.0, "label": "test images" if label is None else str(label)}
        for (x, *rest), label in zip(values.tolist(), labels, strict=True)
    ]
    explained = latents["explained"]
    axes = [f"number {n + 1}" if n < numbers else "" for n in range(2)]
    if explained:
        axes = [f"component {n + 1}: {share:.0%} of the variance" for n, share in enumerate(explained)]
    shown.sort(key=lambda point: (len(point["label"]), point["label"]))
    titles = {"x_title": axes[0], "y_title": axes[1]}
    drawn = [(f"latents-{slug(row['variant'])}", "latents", {"latents": shown}, titles)]
    used = {
        "activity": ("units, most active first", "share of images"),
        "usage": ("codes, most used first", "share of uses"),
    }
    for name, (x_title, y_title) in used.items():
        if name in look:
            bars = [{"x": place, "y": share} for place, share in look[name]["shares"]]
            titles = {"x_title": x_title, "y_title": y_title}
            drawn.append((f"{name}-{slug(row['variant'])}", "bars", {"bars": bars}, titles))
    return drawn


def points(data: dict[str, Any], name: str, group: str) -> tuple[list[Row], list[Row]]:
    """Return the points of a scatter, and those of its Pareto front: a group's, or all whose codes are of its kind."""
    counted = name in charts.CODES
    front = data["fronts"][name].get(ALL if counted else group, [])
    own = [
        {
            "id": row["id"], "x": row["x"][name], "y": row["mse"], "low": row["low"] or row["mse"],
            "high": row["high"] or row["mse"], "kind": row["kind"], "name": row["name"], "best": row["id"] in front,
            "pca": row["pca"],
        }
        for row in data["rows"]
        if row["mse"] and name in row["x"] and (counted or group in (ALL, row["group"]))
    ]  # fmt: skip
    places = {row["id"]: row for row in own}
    return own, [{"x": places[number]["x"], "y": places[number]["y"]} for number in front if number in places]


def _curves(data: dict[str, Any], group: str) -> list[Row]:
    names = [row for row in data["rows"] if row["id"] in data["curves"] and group in (ALL, row["group"])]
    return [
        {"name": row["name"], "x": step, "y": mean, "low": low, "high": high}
        for row in names[: charts.CURVES]
        for step, mean, low, high in zip(
            *(data["curves"][row["id"]][part] for part in ("steps", "mean", "low", "high")), strict=True
        )
        if mean > 0
    ]


def _wall(data: dict[str, Any]) -> Image.Image | None:
    """Draw the reconstructions of the largest group's variants, best first, under the images themselves."""
    looks = data["looks"]
    if looks["images"] is None:
        return None
    group = data["largest"]
    rows = [row for row in data["rows"] if row["mse"] is not None and group in (ALL, row["group"])]
    strips = [("the images themselves", looks["images"]["pixels"])]
    strips += [
        (f"{row['name']}  {row['mse']:.5f}", looks["variants"][row["id"]]["pixels"])
        for row in rows
        if "pixels" in looks["variants"].get(row["id"], {})
    ]
    count = len(looks["images"]["places"])
    font = ImageFont.load_default(14)
    left = int(max(font.getlength(name) for name, _ in strips)) + 24
    width = max(1, round(CELL * looks["size"][1] / looks["size"][0]))
    wall = Image.new("RGB", (left + count * width, 12 + len(strips) * (CELL + 2)), "white")
    pen = ImageDraw.Draw(wall)
    for number, (name, pixels) in enumerate(strips):
        top = 6 + number * (CELL + 2)
        pen.text((8, top + CELL // 2), name, TEXT, font, anchor="lm")
        strip = Image.open(io.BytesIO(base64.b64decode(pixels))).convert("RGB")
        wall.paste(strip.resize((count * width, CELL), Image.Resampling.NEAREST), (left, top))
    return wall
