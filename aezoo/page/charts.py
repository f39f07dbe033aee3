"""The charts of a page, drawn with Altair, without data: a page, or a picture, fills in rows by the data's name.

They are compiled to Vega here, so that a page carries no compiler; and kept, with the bundle that draws them, since
they depend on nothing but this file and the two libraries. A variant's name is data in them, and in no expression.
"""

import contextlib
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from aezoo.errors import StorageError
from aezoo.machine import cache_folder
from aezoo.run.files import write_text

Vega = dict[str, Any]
"""A chart as Vega reads it."""
KINDS = {
    "PCA": ("#d62728", "diamond"),
    "closed form": ("#7f7f7f", "square"),
    "trained": ("#1f77b4", "circle"),
    "trained with a penalty, noise or a mask": ("#e6842a", "triangle-up"),
}
"""The colour and the shape of a variant's point, by what it is."""
LOSS = "test MSE (log scale)"
SCATTERS = {
    "numbers": "numbers in a code",
    "units": "active units in a code",
    "bits": "bits of an image, in an ideal code for the training images' codes",
    "params": "parameters",
    "train": "images a second in training",
    "infer": "images a second in reconstruction",
}
"""What is drawn against the loss, by the chart's name, and how its axis is called."""
TITLES = {
    "numbers": "Loss against code size: numbers",
    "units": "Loss against code size: active units",
    "bits": "Loss against code size: bits",
    "params": "Loss against parameters",
    "train": "Loss against training speed",
    "infer": "Loss against speed of reconstruction",
    "curves": "Learning curves",
}
"""What each chart is called, on the page and on its picture."""
CODES = ("numbers", "units", "bits")
"""Those of them that are about the size of a code, over all groups of their kind."""
FASTER = ("train", "infer")
"""Where more is better."""
CURVES = 8
"""Variants whose learning curves are drawn at first: the best of the largest group that have one."""
WIDTH, HEIGHT = 460, 300


def compiled() -> tuple[dict[str, Vega], str]:
    """Return every chart as Vega, by its name, and the script that draws them: kept, or else made and kept."""
    path = cache_folder() / "page" / f"{_key()}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept["charts"]), str(kept["bundle"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    import vl_convert

    charts = {name: _named_axes(_apart(vl_convert.vegalite_to_vega(drawn))) for name, drawn in _all().items()}
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    with contextlib.suppress(StorageError):  # what cannot be kept is made anew the next time
        write_text(path, json.dumps({"charts": charts, "bundle": bundle}))
    return charts, bundle


def filled(chart: Vega, **rows: list[dict[str, Any]]) -> Vega:
    """Return a chart with the rows of its data, by their names."""
    data = [{**each, "values": rows[each["name"]]} if each["name"] in rows else each for each in chart["data"]]
    return {**chart, "data": data}


def without_canvas(chart: Vega) -> Vega:
    """Return a chart that is drawn where there is no canvas: its names keep apart from each other, not from points."""
    marks = [
        {**mark, "transform": [{**each, "avoidMarks": []} for each in mark["transform"]]}
        if "transform" in mark
        else mark
        for mark in chart["marks"]
    ]
    return {**chart, "marks": marks}


def retitled(chart: Vega, **titles: str) -> Vega:
    """Return a chart whose axes have these titles, by the names of its signals."""
    signals = [{**each, "value": titles.get(each["name"], each.get("value"))} for each in chart["signals"]]
    return {**chart, "signals": signals}


def _key() -> str:
    versions = [metadata.version(name) for name in ("altair", "vl-convert-python")]
    return hashlib.sha256(json.dumps([*versions, Path(__file__).read_text()]).encode()).hexdigest()[:32]


def _apart(chart: Vega) -> Vega:
    """Return a chart whose names of points lie on no other name and on no point, and end where the chart ends.

    Each stands at that side of its point where there is room; where there is none, it is left out. Vega can do so, and
    Vega-Lite, from which the chart was made, cannot say it.
    """
    marks = [dict(mark) for mark in chart.get("marks", [])]
    points = [mark["name"] for mark in marks if mark["type"] == "symbol"]
    for mark in marks:
        if mark["type"] == "text":
            mark["transform"] = [{
                "type": "label", "size": {"signal": "[width, height]"}, "avoidMarks": points,
                "sort": {"field": "datum.y"},
                "anchor": ["top-right", "bottom-right", "top-left", "bottom-left", "right", "left", "top", "bottom"],
                "offset": [7] * 8,
            }]  # fmt: skip
    return {**chart, "marks": marks}


def _named_axes(chart: Vega) -> Vega:
    """Return a chart in which a title such as ``$x_title`` is the signal of that name."""
    names: list[str] = []

    def with_signals(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: with_signals(each) for name, each in part.items() if name != "description"}
        if isinstance(part, list):
            return [with_signals(each) for each in part]
        if isinstance(part, str) and part.startswith("$"):
            names.append(part[1:])
            return {"signal": part[1:]}
        return part

    changed = with_signals(chart)
    signals = [{"name": name, "value": ""} for name in dict.fromkeys(names)]
    return {**changed, "signals": [*changed.get("signals", []), *signals]}


def _all() -> dict[str, dict[str, Any]]:
    drawn = {name: _scatter(name, title) for name, title in SCATTERS.items()}
    for x in ("linear", "log"):
        for y in ("linear", "log"):
            drawn[f"curves_{x}_{y}"] = _curves(x, y)
    return drawn | {"latents": _latents(), "bars": _bars(), "profile": _profile(), "ranks": _ranks()}


def _finished(chart: Any, *, width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    """Return a chart in the page's own colours, whichever those are: those of the text around it."""
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
    text = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFont": font, "titleFont": font}
    lines = {"domainColor": "currentColor", "tickColor": "currentColor", "gridColor": "currentColor"}
    chart = (
        chart.properties(width=width, height=height)
        .configure(background="transparent", padding=6, aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            **text, **lines, gridOpacity=0.13, domainOpacity=0.5, tickOpacity=0.5, labelFontSize=11, labelSeparation=8
        )
        .configure_legend(**text, orient="top", labelLimit=320, symbolOpacity=1, columns=5)
        .configure_text(color="currentColor", font=font)
    )
    drawn: dict[str, Any] = chart.to_dict()
    return drawn


def _scatter(name: str, title: str) -> dict[str, Any]:
    """Draw the loss against something, with the Pareto front, and PCA's line where there is one."""
    import altair as alt

    points, front, pca = (alt.Chart(alt.NamedData(data)) for data in ("points", "front", "pca"))
    counted = name in CODES
    x = alt.X("x:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=12), axis=alt.Axis(format=".3~s"))
    y = alt.Y("y:Q", title=LOSS, scale=alt.Scale(type="log", nice=False, padding=8), axis=alt.Axis(format=".3~g"))
    interpolate: Literal["linear", "step-before", "step-after"] = (
        "linear" if counted else "step-before" if name in FASTER else "step-after"
    )
    kinds = list(KINDS)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[KINDS[kind][0] for kind in kinds]), title=None)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=[KINDS[kind][1] for kind in kinds]), title=None)
    shown, chosen = "!any || marked[datum.id]", "any && marked[datum.id]"
    named = "any ? marked[datum.id] && !crowded : datum.best"
    signals = [
        alt.param(name=each, value=value) for each, value in (("marked", {}), ("any", False), ("crowded", False))
    ]
    chart = alt.layer(
        front.mark_line(interpolate=interpolate, color="currentColor", opacity=0.45, strokeWidth=1.5).encode(x=x, y=y),
        pca.mark_line(color=KINDS["PCA"][0], strokeDash=[4, 3], opacity=0.8).encode(x=x, y=y),
        points.mark_rule(opacity=0.35).encode(
            x=x, y=alt.Y("low:Q", title=LOSS), y2="high:Q", color=colour,
            opacity=alt.condition(shown, alt.value(0.35), alt.value(0.05)),
        ),
        points.mark_point(filled=True, cursor="pointer").encode(
            x=x, y=y, color=colour, shape=shape,
            opacity=alt.condition(shown, alt.value(0.95), alt.value(0.12)),
            size=alt.condition(chosen, alt.value(150), alt.value(60)),
        ).add_params(alt.selection_interval(name="brush", zoom=False)),
        points.transform_filter(named)
        .mark_text(fontSize=10, limit=150)
        .encode(x=x, y=y, text="name:N"),
    ).add_params(*signals)  # fmt: skip
    return _finished(chart)


def _curves(x_scale: Literal["linear", "log"], y_scale: Literal["linear", "log"]) -> dict[str, Any]:
    """Draw the training loss of several variants, a line each, with a band from the least to the greatest seed."""
    import altair as alt

    curves = alt.Chart(alt.NamedData("curves"))
    x = alt.X(
        "x:Q", title="$x_title", scale=alt.Scale(type=x_scale, nice=False, zero=False), axis=alt.Axis(format=",~r")
    )
    y_title = "training MSE" + (" (log scale)" if y_scale == "log" else "")
    y = alt.Y("y:Q", title=y_title, scale=alt.Scale(type=y_scale, nice=False, zero=False), axis=alt.Axis(format=".3~g"))
    colour = alt.Color("name:N", scale=alt.Scale(scheme="tableau10"), sort=None, title=None)
    chart = alt.layer(
        curves.mark_area(opacity=0.18).encode(x=x, y=alt.Y("low:Q", title=y_title), y2="high:Q", color=colour),
        curves.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour),
    )
    return _finished(chart, width=900, height=340)


def _latents() -> dict[str, Any]:
    """Draw the codes of test images in two numbers, in the colours of their labels."""
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData("latents"))
        .mark_point(filled=True, size=22, opacity=0.75, cursor="crosshair")
        .encode(
            x=alt.X("x:Q", title="$x_title", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
            y=alt.Y("y:Q", title="$y_title", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
            color=alt.Color("label:N", scale=alt.Scale(scheme="category20"), title=None, sort=None),
        )
    )
    return _finished(chart, width=300, height=260)


def _bars() -> dict[str, Any]:
    """Draw how often units are active, or codes are used, the most frequent first."""
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData("bars"))
        .mark_area(interpolate="step-after", line=True, opacity=0.5)
        .encode(
            x=alt.X("x:Q", title="$x_title", scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1, tickCount=6)),
            y=alt.Y("y:Q", title="$y_title", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=4, format=".3~g")),
        )
    )
    return _finished(chart, width=300, height=110)


def _profile() -> dict[str, Any]:
    """Draw, for several variants, in what share of data sets each is within a factor of the best."""
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData("profile"))
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(
            x=alt.X("x:Q", title="within this factor of the best test MSE", scale=alt.Scale(type="log", nice=False)),
            y=alt.Y("y:Q", title="share of data sets", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("name:N", scale=alt.Scale(scheme="tableau10"), sort=None, title=None),
        )
    )
    return _finished(chart, width=620, height=300)


def _ranks() -> dict[str, Any]:
    """Draw the mean rank of each variant over data sets, with its interval."""
    import altair as alt

    ranks = alt.Chart(alt.NamedData("ranks"))
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=300))
    chart = alt.layer(
        ranks.mark_rule(opacity=0.6, color="currentColor").encode(
            x=alt.X("low:Q", title="mean rank (left is better)", scale=alt.Scale(zero=False)), x2="high:Q", y=y
        ),
        ranks.mark_point(filled=True, size=60, color=KINDS["trained"][0], opacity=1).encode(x="mean:Q", y=y),
    )
    return _finished(chart, width=500, height=260)
