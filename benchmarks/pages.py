"""Measure the page of a run in a browser: its size, its first paint, and how long each interaction takes.

    pip install -e '.[dev]'; apt-get install chromium chromium-driver
    python benchmarks/pages.py

makes pages of 77 and of 300 variants (their runs are written, not trained), says how long that takes, and opens each in
headless Chromium, which draws in software. An interaction lasts from the call to the end of the next frame; medians of
several, the worst of them beside it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pictures import browser

from aezoo.page import page

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


def chosen(selector: str, value: str) -> str:
    """Return the script that chooses a value, as a person does."""
    return (
        f"const e = document.querySelector({selector!r}); e.value = {value!r};"
        "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, { bubbles: true }))"
    )


def clicked(selector: str, place: int = 0) -> str:
    """Return the script that clicks."""
    return f"document.querySelectorAll({selector!r})[{place}].click()"


INTERACTIONS = (
    ("table", "sort by loss", clicked("#results .sort", 2)),
    ("table", "sort by name", clicked("#results .sort", 1)),
    ("table", "find", chosen("#find", "net1")),
    ("table", "find nothing more", chosen("#find", "")),
    ("table", "filter a column", chosen("[data-filter='2']", "<0.015")),
    ("table", "filter no more", chosen("[data-filter='2']", "")),
    ("table", "hide a column", clicked("#columns input", 3)),
    ("table", "show it", clicked("#columns input", 3)),
    ("table", "pin", clicked("tbody .pin")),
    ("table", "pin no more", clicked("tbody .pin")),
    ("table", "dark", chosen("#theme", "dark")),
    ("table", "light", chosen("#theme", "light")),
    ("charts", "mark", clicked(".mark", 2)),
    ("charts", "clear marks", clicked("#clear")),
    ("charts", "all groups", chosen(".group-choice", "all")),
    ("charts", "one group", chosen(".group-choice", "16 numbers")),
    ("curves", "by second", chosen("#curves-x", "second")),
    ("curves", "by step", chosen("#curves-x", "step")),
    ("wall", "error maps", chosen("#wall-show", "errors")),
    ("wall", "reconstructions", chosen("#wall-show", "images")),
    ("wall", "columns", chosen("#wall-by", "columns")),
    ("wall", "rows", chosen("#wall-by", "rows")),
)
TIMED = """
const done = arguments[0], begun = performance.now();
%s;
requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
"""


def ready(driver: Any) -> None:
    """Wait until all of a page is drawn."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if driver.execute_script("return document.documentElement.dataset.drawn") == "yes":
            return
        time.sleep(0.05)
    raise SystemExit("the page is not drawn after a minute")


def measure(path: Path, rounds: int) -> list[str]:
    """Return a line for the page and one for each interaction."""
    driver = browser(1280, 900)
    try:
        paints = []
        for _ in range(rounds):
            driver.get("about:blank")
            driver.get(path.as_uri())
            ready(driver)
            paints.append(driver.execute_script("return performance.getEntriesByType('paint')[0].startTime"))
        lines = [f"{path.stat().st_size / 1e6:.2f} MB; first paint {_of(paints)}"]
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for section, name, script in INTERACTIONS:
                driver.execute_script("document.getElementById(arguments[0]).scrollIntoView()", section)
                ready(driver)
                times.setdefault(name, []).append(driver.execute_async_script(TIMED % script))
                ready(driver)
        return lines + [f"  {name:<20} {_of(some)}" for name, some in times.items()]
    finally:
        driver.quit()


def _of(times: list[float]) -> str:
    return f"{statistics.median(times):.0f} ms (worst {max(times):.0f})"


def main() -> None:
    from made_runs import make_run, several  # type: ignore[import-not-found]  # it is beside the tests

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, nargs="+", default=[77, 300])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for count in given.variants:
        with tempfile.TemporaryDirectory() as folder:
            run = make_run(Path(folder) / "run", several(count), shape=(1, 16, 16))
            made = []
            for _ in range(given.rounds):
                started = time.perf_counter()
                path = page.write(run)
                made.append(time.perf_counter() - started)
            print(f"{count} variants, made in {statistics.median(made):.1f} s (the first in {made[0]:.1f} s): ", end="")
            print("\n".join(measure(path, given.rounds)))


if __name__ == "__main__":
    main()
