"""Write the page of a run: `report.html`, one file that holds all that it shows and asks for nothing else."""

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from aezoo import machine
from aezoo.page import charts
from aezoo.page.contents import Keep, contents
from aezoo.run.files import write_text
from aezoo.run.store import REPORT, RunDirectory

_SCRIPTS = ("state.js", "vega.js", "table.js", "charts.js", "wall.js", "latents.js", "theme.js", "start.js")


def write(run: RunDirectory, path: Path | None = None, keep: Keep | None = None) -> Path:
    """Write the page of a run, beside its records or as another file, and return where it is.

    `keep` is told which test images it shows, before those that the run keeps are read.

    Raises:
        AezooError: there is no run, or the page cannot be written.
    """
    run = run.load()
    target = path or run.path / REPORT
    write_text(target, html(run, keep))
    return target


def html(run: RunDirectory, keep: Keep | None = None) -> str:
    """Return the page of a run.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    page = contents(run, keep)
    drawn, bundle = charts.compiled()
    columns = len(page.data["columns"])
    rules = {
        "charts": drawn, "titles": charts.TITLES, "axes": charts.SCATTERS, "codes": charts.CODES,
        "curves_shown": charts.CURVES,
    }  # fmt: skip
    return rendered("page.html.jinja", _SCRIPTS, bundle, page.texts, page.data | rules, columns)


def rendered(
    template: str, scripts: tuple[str, ...], bundle: str, texts: dict[str, Any], data: dict[str, Any], columns: int
) -> str:
    """Return a page: its texts escaped by the template, its data as JSON, its scripts allowed by their hashes alone."""
    hiding = [*map(str, range(columns)), "pin"]
    hidden = ",".join(f'table[data-hide~="{name}"] .c{name}' for name in hiding)
    style = f"{_asset('page.css')}{hidden}{{display:none}}\n"
    own = '(() => {\n"use strict";\n' + "\n".join(map(_asset, scripts)) + "\n})();"
    # A script ends where its closing tag stands, even within a text.
    parts = [part.replace("</script", "<\\/script").replace("<!--", "<\\!--") for part in (bundle, own)]
    policy = {
        "default-src": ["'none'"],
        "script-src": [f"'sha256-{_hash(part)}'" for part in parts],
        "style-src": [f"'sha256-{_hash(style)}'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return _template(template).render(
        **texts,
        version=machine.version(),
        policy="; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items()),
        style=style,
        scripts=parts,
        data=json_in_html(data),
    )


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_asset(name))


def json_in_html(data: Any) -> str:
    """Return data as JSON that no text in it can end: neither its element nor a line of it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files("aezoo.page").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
