"""Make the pictures of the README from a run: its page in a browser, two of its charts, and a bench as it runs.

    pip install -e '.[dev]'; apt-get install chromium chromium-driver
    python benchmarks/pictures.py results/<run> results/pictures

writes page.png, wall.png (parts of the page, as headless Chromium shows them), numbers.svg and params.svg (as
`aezoo report --pictures` writes them) and live.png (a quick bench on a terminal, caught half way).
"""

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import aezoo
from aezoo.cli.screen import LiveObserver
from aezoo.page import page, pictures
from aezoo.run.records import TrialPlan
from aezoo.run.store import RunDirectory

CHARTS = ("numbers", "params")
BENCHED = ["conv[latent_dim=16]", "conv_resize", "mlp[latent_dim=16]", "vae", "topk", "fsq", "linear[latent_dim=16]"]
"""What the bench that is caught on the terminal trains."""


def terminal() -> Console:
    """Return a terminal of 96 columns that nobody sees, and that keeps what is shown."""
    return Console(file=io.StringIO(), record=True, force_terminal=True, width=96, height=38, color_system="truecolor")


class Still(LiveObserver):
    """Keeps what the terminal shows when half of the trials have ended."""

    def __init__(self) -> None:
        super().__init__(
            Console(file=io.StringIO(), force_terminal=True, width=96, height=38, color_system="truecolor")
        )
        self.kept = ""

    def stepped(self, plan: TrialPlan, steps: int) -> None:
        super().stepped(plan, steps)
        if not self.kept and self.done >= self.total / 2:
            recorder = terminal()
            recorder.print(self._render())
            self.kept = recorder.export_html(inline_styles=True)


def browser(width: int, height: int) -> Any:
    """Return a headless Chromium with a window of this size."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless", "--no-sandbox", f"--window-size={width},{height}", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument("--force-device-scale-factor=1")
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def shoot(driver: Any, address: str, target: Path, part: str | None = None) -> None:
    """Take a picture of a page, from a part of it on, once all is drawn."""
    driver.get(address)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if driver.execute_script("return document.documentElement.dataset.drawn ?? 'yes'") == "yes":
            break
        time.sleep(0.1)
    if part:
        driver.execute_script("document.getElementById(arguments[0]).scrollIntoView()", part)
        time.sleep(0.5)
    driver.save_screenshot(str(target))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path, help="a folder")
    parser.add_argument("--variants", nargs="+", default=BENCHED, help="what the bench on the terminal trains")
    parser.add_argument("--dataset", default="mnist-5k", help="on which")
    parser.add_argument("--steps", type=int, default=600, help="for so many steps")
    given = parser.parse_args()
    run = RunDirectory(given.run).require()
    given.target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for path in pictures.write(run, folder / "charts"):
            if path.stem in CHARTS and path.suffix == ".svg":
                shutil.copyfile(path, given.target / path.name)
        still = Still()
        recipe = aezoo.read_recipe("quick").change(dataset=given.dataset, steps=given.steps)
        try:
            aezoo.bench(given.variants, recipe=recipe, out=folder / "run", timing=False, report=False, observer=still)
        finally:
            still.stop()
        (folder / "live.html").write_text(f"<meta charset='utf-8'>{still.kept}", encoding="utf-8")
        whole = page.write(run, folder / "page.html")
        driver = browser(1200, 1060)
        try:
            shoot(driver, whole.as_uri(), given.target / "page.png")
            shoot(driver, whole.as_uri(), given.target / "wall.png", "wall")
            driver.set_window_size(980, 470)
            shoot(driver, (folder / "live.html").as_uri(), given.target / "live.png")
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
