"""The page of a run in a real browser: headless Chromium, which is cut off from the network and watched."""

import io
import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_runs import make_run, several, variant

from aezoo.page import page, pictures
from aezoo.page.contents import contents, pareto
from aezoo.run.store import RunDirectory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium and chromedriver here: apt-get install chromium chromium-driver"
)


class Browser:
    """Chromium, without a network: what a page asks for is watched, and what its console says is kept."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in (
            "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900", "--force-device-scale-factor=1",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-dev-shm-usage",
        ):  # fmt: skip
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.driver.set_script_timeout(30)
        self.requests: list[str] = []
        self.messages: list[str] = []

    def open(self, path: Path, address: str = "") -> None:
        """Open a page anew, and draw all of it."""
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.requests, self.messages = [], []
        self.driver.get(f"{path.as_uri()}{address}")
        self.until("return document.documentElement.dataset.ready === 'yes'")

    def draw(self) -> None:
        """Wait until all is drawn."""
        self.until("return document.documentElement.dataset.drawn === 'yes'")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.05)

    def faults(self) -> list[str]:
        """Return what the console said that is no notice, and every request that left the file."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        self.messages += [entry["message"] for entry in self.driver.get_log("browser")]
        left = [url for url in self.requests if not re.match(r"(file|data|blob|about|chrome):", url)]
        return self.messages + left

    def set(self, selector: str, value: str) -> None:
        """Type or choose a value, as a person does."""
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true}))",
            selector, value,
        )  # fmt: skip

    def click(self, selector: str, place: int = 0) -> None:
        self.run("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, place)

    def address(self) -> str:
        time.sleep(0.3)  # it is written a little later
        return str(self.run("return location.hash"))

    def shown(self) -> list[str]:
        """Return the variants that the table shows, in order."""
        return list(
            self.run(
                "return [...document.querySelectorAll('#results tbody tr[data-id]')].filter(e => e.offsetParent)"
                ".map(e => e.querySelector('th bdi').textContent)"
            )
        )

    def column(self, name: str) -> list[str]:
        """Return the texts of a column, in the rows that are shown."""
        return list(
            self.run(
                "const c = [...document.querySelectorAll('#results .sort')].find(b => b.textContent === arguments[0])"
                ".dataset.sort; return [...document.querySelectorAll('#results tbody tr[data-id]')]"
                ".filter(e => e.offsetParent).map(e => e.querySelector(`.c${c}`).innerText)",
                name,
            )
        )

    def copied(self, kind: str) -> str:
        """Copy the table, and return what a paste would give."""
        self.run("window.pasted = null; navigator.clipboard.writeText = async text => { window.pasted = text; }")
        self.click(f"[data-copy='{kind}']")
        self.until("return window.pasted !== null")
        return str(self.run("return window.pasted"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Path:
    """Return the page of a run of 24 variants in three groups."""
    folder = tmp_path_factory.mktemp("usual")
    some = several(20)
    some[3] |= {"latent_kind": "sparse", "active_units": 7.6}
    some[4] |= {"latent_kind": "discrete", "latent_bits": 128.0}
    some += [
        variant("fails", status="error", reason="KeyError: gone", traceback="Traceback\n  here\nKeyError: gone"),
        variant("excused", loss=0.05, exceptions={"deterministic": "it throws dice"}),
        variant("tuned", loss=0.04, objective="mse + kl"),
    ]
    return page.write(make_run(folder / "run", some))


def test_the_page_of_a_run_has_no_fault_and_leaves_the_file_for_nothing(browser, usual):
    browser.open(usual)
    browser.draw()
    assert browser.faults() == []
    headings = browser.run("return [...document.querySelectorAll('h2')].map(e => e.textContent)")
    assert headings == [
        "The table", "What a better reconstruction costs", "Learning curves", "The same images, by each variant",
        "Where they differ", "Latent spaces", "Notes and record",
    ]  # fmt: skip
    first = browser.run("return document.querySelector('h1').textContent")
    assert "net1[latent_dim=16]" in first
    assert browser.run("return document.querySelectorAll('.made').length") == 2
    labels = browser.run("return [...document.querySelectorAll('.chart')].map(e => e.getAttribute('aria-label'))")
    assert len(labels) > 6
    assert len(set(labels)) == len(labels)
    assert all("net" in label or "pca" in label for label in labels)


def test_the_watch_sees_a_request_and_the_policy_refuses_it(browser, usual, tmp_path):
    """The check above can fail."""
    harmed = tmp_path / "harmed.html"
    text = usual.read_text()
    harmed.write_text(
        text.replace("<main>", '<main><img src="https://example.org/x.png"><img src="x" onerror="window.harmed = 1">')
    )
    browser.open(harmed)
    faults = browser.faults()
    assert any("Content Security Policy" in fault for fault in faults)
    assert browser.run("return window.harmed === undefined")
    harmed.write_text(
        re.sub("<meta http-equiv.*?>", "", text).replace("<main>", '<main><img src="https://example.org/x.png">')
    )
    browser.open(harmed)
    browser.until("return document.images[0].complete")
    assert "https://example.org/x.png" in browser.faults()


def test_a_script_of_the_page_itself_cannot_evaluate_a_text(browser, usual, tmp_path, monkeypatch):
    asset = page._asset
    tried = """
        const root = document.documentElement;
        try { root.dataset.evaluated = eval("'yes'"); } catch (error) { root.dataset.evaluated = error.name; }
    """
    monkeypatch.setattr(page, "_asset", lambda name: asset(name) + (tried if name == "start.js" else ""))
    browser.open(page.write(RunDirectory(usual.parent), tmp_path / "page.html"))
    assert browser.run("return document.documentElement.dataset.evaluated") == "EvalError"
    policy = browser.run("return document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("header", "name"), [("test_mse", "test_mse"), ("params", "num_params"), ("variant", "variant")]
)
def test_a_column_sorts_within_the_groups_and_back(browser, usual, header, name):
    browser.open(usual)
    before = browser.shown()
    place = browser.run(
        "return [...document.querySelectorAll('#results .sort')].findIndex(b => b.textContent === arguments[0])", header
    )
    browser.click("#results .sort", place)
    assert browser.address() == f"#sort={name}+up"
    values = browser.run(
        "return [...document.querySelectorAll('#results tbody')].map(b => [...b.querySelectorAll('tr[data-id]')]"
        ".map(e => e.querySelector(`.c${arguments[0]}`).innerText))", str(place),
    )  # fmt: skip
    for group in values:
        numbers = [each.removeprefix("> ") for each in group if each != "-"]
        if header == "variant":
            natural = [[int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)] for text in numbers]
            assert natural == sorted(natural)
        else:
            losses = [float(each.replace(",", "")) for each in numbers]
            assert losses == sorted(losses)
    browser.click("#results .sort", place)
    assert browser.run("return document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    browser.click("#results .sort", place)
    assert browser.shown() == before


def test_text_and_columns_filter_and_the_address_keeps_it(browser, usual):
    browser.open(usual)
    everything = browser.shown()
    browser.set("#find", "KL")
    assert browser.shown() == ["tuned"]
    browser.set("#find", "")
    browser.set("[data-filter='2']", "<0.012")
    few = browser.shown()
    assert few
    assert all(float(text) < 0.012 for text in browser.column("test_mse"))
    assert len(few) < len(everything)
    address = browser.address()
    browser.open(usual, address)
    assert browser.shown() == few
    assert browser.run("return document.querySelector('tr.filters').hidden") is False
    assert browser.faults() == []


def test_incomplete_rows_and_columns_are_hidden_by_choice(browser, usual):
    browser.open(usual)
    assert "fails" in browser.shown()
    browser.click("#complete")
    assert "fails" not in browser.shown()
    browser.click("#columns input", 1)
    assert browser.run("return getComputedStyle(document.querySelector('td.c2')).display") == "none"
    assert "hide=" in browser.address()
    browser.open(usual, browser.address())
    assert browser.run("return getComputedStyle(document.querySelector('td.c2')).display") == "none"


def test_a_pinned_baseline_stays_and_the_others_are_held_against_it(browser, usual):
    browser.open(usual)
    browser.run(
        "[...document.querySelectorAll('#results tr[data-id]')].find(e => e.textContent.includes('pca[latent_dim=16]'))"
        ".querySelector('.pin').click()"
    )
    assert browser.run("return document.querySelector('tr.pinned th').textContent").strip("> ") == "pca[latent_dim=16]"
    ratios = browser.run(
        "return [...document.querySelectorAll('#results tr[data-id]')].map(e => [e.querySelector('th bdi').textContent,"
        "e.querySelector('.cpin').innerText])"
    )
    table = {row["name"]: row for row in contents(RunDirectory(usual.parent)).data["rows"]}
    for name, ratio in ratios:
        loss = table[name.removeprefix("> ")]["mse"]
        assert ratio == ("" if loss is None else f"{loss / table['pca[latent_dim=16]']['mse']:.3f}")
    browser.open(usual, browser.address())
    assert browser.run("return document.querySelectorAll('tr.pinned').length") == 1


def test_marks_are_in_every_chart_and_in_the_table(browser, usual):
    browser.open(usual)
    browser.draw()
    browser.click(".mark", 0)
    browser.click(".mark", 1)
    assert browser.run("return document.querySelectorAll('tr.marked').length") == 2
    strong = (
        "return [...document.querySelectorAll('#scatters .chart')].map(c => [...c.querySelectorAll("
        "'.role-mark.mark-symbol path')].filter(p => p.getAttribute('opacity') === '0.95').length)"
    )
    browser.until("return document.documentElement.dataset.drawn === 'yes'")
    time.sleep(0.2)
    counts = browser.run(strong)
    assert len(counts) == 6
    # Both have a code of 8 numbers, and the group that is chosen is that of 16.
    assert counts[0] == 2
    assert max(counts) == 2
    assert "2 marked" in browser.run("return document.querySelector('#curves-note').textContent")
    browser.click("#clear")
    assert browser.run("return document.querySelectorAll('tr.marked').length") == 0


BOXES = """
    return [...document.querySelectorAll('#scatters .chart')].map(chart => {
        const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.right, r.top, r.bottom]; };
        const seen = selector => [...chart.querySelectorAll(selector)].filter(e => e.getAttribute('opacity') !== '0');
        return {
            chart: box(chart), names: seen('.role-mark.mark-text text').map(e => [e.textContent, ...box(e)]),
            ticks: [...chart.querySelectorAll('.role-axis-label')].map(g => [...g.querySelectorAll('text')]
                .filter(e => e.getAttribute('opacity') !== '0').map(e => [e.textContent, ...box(e)])),
        };
    })
"""


@pytest.mark.parametrize("width", [1400, 500])
def test_names_and_ticks_of_a_chart_lie_apart_and_within_it(browser, tmp_path, width):
    made = [
        variant(f"a_network_of_a_long_name_{n}", loss=0.02 * 0.97**n, num_params=9000 + 400 * n * n) for n in range(14)
    ]
    coded = {"latent_kind": "discrete", "latent_bits": 9.0, "coded_bits": 8.88172893834}
    browser.driver.set_window_size(width, 900)
    try:
        browser.open(page.write(make_run(tmp_path / "run", [*made, variant("k", loss=0.03, **coded)])))
        browser.draw()
        charts = browser.run(BOXES)
    finally:
        browser.driver.set_window_size(1280, 900)
    assert browser.faults() == []
    named = 0
    for chart in charts:
        left, right, _, bottom = chart["chart"]
        for one in chart["names"]:
            named += "…" not in one[0]
            assert (left <= one[1], one[2] <= right, one[4] <= bottom) == (True, True, True), one
        for some in (chart["names"], *chart["ticks"]):
            for one, other in itertools.combinations(some, 2):
                # A text's box is higher than its letters.
                apart = one[2] <= other[1] or other[2] <= one[1] or one[4] - 3 <= other[3] or other[4] - 3 <= one[3]
                assert apart, (one, other)
    assert named > 5
    ticks = [text for chart in charts for axis in chart["ticks"] for text, *_ in axis]
    assert "8.88" in ticks
    assert max(map(len, ticks)) < 7


def test_a_chart_without_points_of_the_chosen_group_is_empty(browser, tmp_path):
    some = [variant("a", loss=0.02), variant("b", loss=0.03), variant("c", group=8, num_params=None)]
    browser.open(page.write(make_run(tmp_path / "run", some)))
    browser.draw()
    browser.set("#charts .group-choice", "8 numbers")
    time.sleep(0.3)
    shown = browser.run("return [...document.querySelectorAll('#scatters .chart')].map(e => e.ariaLabel)")
    assert any("parameters: 0 variants" in label for label in shown)
    browser.set("#charts .group-choice", "16 numbers")
    browser.until(
        "return [...document.querySelectorAll('#scatters .chart')].every(e => e.querySelector('.mark-symbol path'))"
    )
    assert browser.faults() == []


def test_the_wall_has_its_heights_before_its_images_and_cuts_no_share(browser, tmp_path, monkeypatch):
    asset = page._asset
    unpainted = ("function paint(", "function paint() {}\nfunction painted(")
    heights = "return [...document.querySelectorAll('#wall-body .strip')].map(e => e.getBoundingClientRect().height)"
    run = make_run(tmp_path / "run", [variant(f"a{n}") for n in range(4)])
    measured = {}
    for name, change in (("painted", ("", "")), ("not yet", unpainted)):
        monkeypatch.setattr(page, "_asset", lambda name, change=change: asset(name).replace(*change))
        for by in ("rows", "columns"):
            browser.open(page.write(run, tmp_path / f"{name}.html"), f"#at=wall&by={by}")
            browser.draw()
            measured[name, by] = browser.run(heights)
    assert len(measured["painted", "rows"]) == 6
    assert max(measured["painted", "rows"]) < 70
    for by in ("rows", "columns"):
        assert measured["painted", by] == measured["not yet", by]
    clipped = tmp_path / "painted.html"
    clipped.write_text(clipped.read_text().replace('"clipped":0.0', '"clipped":0.243'))
    browser.open(clipped, "#at=wall")
    browser.draw()
    told = browser.run(
        "const cut = e => e.scrollWidth - e.clientWidth;"
        "return [...document.querySelectorAll('#wall-body small')]"
        ".map(e => [e.textContent, cut(e), cut(e.parentElement)])"
    )
    assert [each[0].split(" · ")[1:] + each[1:] for each in told] == [["24.3 % of pixels clipped", 0, 0]] * 4


def test_a_name_that_is_too_long_for_the_table_ends_with_an_ellipsis(browser, tmp_path):
    browser.open(page.write(make_run(tmp_path / "run", [variant("a_name_that_is_long_" * 9)])))
    browser.draw()
    inside = (
        "const e = document.querySelector('#results tbody th bdi'); const r = e.getBoundingClientRect();"
        "return [e.scrollWidth > e.clientWidth, getComputedStyle(e).textOverflow,"
        "r.right <= e.parentElement.getBoundingClientRect().right]"
    )
    assert browser.run(inside) == [True, "ellipsis", True]


def test_a_click_on_a_point_and_a_box_over_some_mark_them(browser, usual):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser.open(usual)
    browser.draw()
    browser.run("document.querySelector('#charts').scrollIntoView()")
    chart = browser.driver.find_element(By.CSS_SELECTOR, "#scatters .chart svg")
    point = chart.find_element(By.CSS_SELECTOR, ".mark-symbol.role-mark path")
    ActionChains(browser.driver).move_to_element(point).click().perform()
    browser.until("return document.querySelectorAll('tr.marked').length >= 1")
    browser.click("#clear")
    width, height = chart.size["width"], chart.size["height"]
    ActionChains(browser.driver).move_to_element_with_offset(
        chart, -int(width * 0.3), -int(height * 0.15)
    ).click_and_hold().move_by_offset(int(width * 0.7), int(height * 0.35)).release().perform()
    browser.until("return document.querySelectorAll('tr.marked').length > 3")
    assert "marked=" in browser.address()
    assert browser.faults() == []


def test_copies_are_what_the_table_shows(browser, usual):
    browser.open(usual)
    browser.set("#find", "net1")
    shown = browser.shown()
    csv = browser.copied("csv")
    read = pd.read_csv(io.StringIO(csv))
    assert list(read["variant"]) == shown
    whole = pd.read_csv(usual.parent / "table.csv") if (usual.parent / "table.csv").exists() else None
    assert whole is None or set(read["test_mse"]) <= set(whole["test_mse"])
    exact = {row["variant"]: row["mse"] for row in contents(RunDirectory(usual.parent)).data["rows"]}
    assert list(read["test_mse"]) == [exact[name] for name in shown]
    markdown = browser.copied("markdown").splitlines()
    assert len(markdown) == 2 + len(shown)
    assert [line.split(" | ")[2] for line in markdown[2:]] == shown
    latex = browser.copied("latex")
    assert latex.startswith("\\begin{tabular}{l")
    assert all(name.replace("_", "\\_") in latex for name in shown)
    assert browser.copied("link").endswith(browser.address())


def test_the_axes_of_the_curves_change(browser, usual):
    browser.open(usual)
    browser.draw()
    title = "return document.querySelector('#curves-chart svg').textContent"
    assert "steps" in browser.run(title)
    browser.set("#curves-x", "image")
    browser.until(f"{title}.includes('images seen')")
    browser.click("#curves-xlog")
    browser.until("return location.hash.includes('xlog=1')")
    browser.until("return document.querySelectorAll('#curves-chart svg').length === 1")
    assert browser.faults() == []


def test_the_wall_shows_images_and_error_maps_in_rows_and_columns(browser, usual):
    browser.open(usual)
    browser.draw()
    pixels = (
        "const c = document.querySelectorAll('#wall-body canvas')[arguments[0]];"
        "return [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, 1, 1).data]"
    )
    run = RunDirectory(usual.parent)
    kept = run.read_images()
    original = browser.run(pixels, 0)
    assert original[:2] == [16 * 13 - 1, 12]
    assert original[2] == kept.pixels[0][0, 0, 0]
    best = browser.run("return document.querySelectorAll('#wall-body .strip .name bdi')[0].textContent")
    record = next(record for record in run.records().values() if record.variant == best and record.seed == 0)
    assert browser.run(pixels, 1)[2] == run.read_samples(record).reconstructions[0, 0, 0, 0]
    browser.set("#wall-show", "errors")
    browser.draw()
    browser.until("return document.querySelectorAll('#wall-body canvas')[1].width === 16 * 13 - 1")
    time.sleep(0.2)
    difference = int(run.read_samples(record).reconstructions[0, 0, 0, 0]) - int(kept.pixels[0][0, 0, 0])
    red, _, blue = browser.run(pixels, 1)[2:5]
    assert (red > blue) == (difference > 0)
    browser.set("#wall-by", "columns")
    browser.draw()
    browser.until("return document.querySelectorAll('#wall-body canvas')[1].height === 16 * 13 - 1")
    assert browser.faults() == []


def test_latent_spaces_stand_side_by_side(browser, usual):
    browser.open(usual)
    browser.draw()
    before = browser.run("return document.querySelectorAll('.panel').length")
    browser.set("#latents-add", "net3[latent_dim=8]")
    browser.click("#latents-add-button")
    browser.draw()
    names = browser.run("return [...document.querySelectorAll('.panel h3 bdi')].map(e => e.textContent)")
    assert len(names) == before + 1
    assert names[-1] == "net3[latent_dim=8]"
    text = browser.run("return document.querySelector('.panel:last-child').textContent")
    assert "60 % of the variance" in text
    assert "20 units" in text  # it is sparse
    browser.set("#latents-add", "net4[latent_dim=16]")
    browser.click("#latents-add-button")
    browser.draw()
    assert "of 64 codes used" in browser.run("return document.querySelector('.panel:last-child').textContent")
    assert browser.faults() == []


def test_charts_are_saved_as_svg_and_png(browser, usual):
    browser.open(usual)
    browser.draw()
    browser.run(
        "window.saved = [];"
        "HTMLAnchorElement.prototype.click = function () { window.saved.push([this.download, this.href]); };"
    )
    browser.click("#scatters .saves button", 0)
    browser.click("#scatters .saves button", 1)
    browser.until("return window.saved.length === 2")
    assert [name for name, _ in browser.run("return window.saved")] == ["numbers.svg", "numbers.png"]


def test_dark_light_and_print(browser, usual):
    browser.open(usual)
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert browser.run(ground) == "rgb(255, 255, 255)"
    browser.set("#theme", "dark")
    assert browser.run(ground) == "rgb(20, 23, 27)"
    assert "theme=dark" in browser.address()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.run(ground) == "rgb(255, 255, 255)"
        assert browser.run("return getComputedStyle(document.querySelector('.tools')).display") == "none"
        scrolled = "const e = document.querySelector('#table .scroll'); return e.scrollHeight - e.clientHeight"
        assert browser.run(scrolled) <= 1
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    try:
        browser.open(usual)
        assert browser.run(ground) == "rgb(20, 23, 27)"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_checker_of_accessibility_finds_no_serious_fault(browser, usual, theme):
    import axe_core_python

    browser.open(usual, f"#theme={theme}")
    browser.draw()
    browser.run((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    found = browser.driver.execute_async_script("axe.run().then(arguments[0])")
    serious = [
        (each["id"], each["nodes"][0]["html"][:200])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


HOSTILE = {
    "script": "</script><script>window.harmed = 1</script>",
    "picture": '"><img src=x onerror="window.harmed = 1">',
    "comment": "<!--<script>",
    "expression": "datum.x, event.constructor.constructor('window.harmed = 1')()",
    "template": "{{ 7 * 7 }} {% raw %} ${window.harmed = 1}",
    "formula": '=HYPERLINK("https://example.org")',
    "turned": "\u202egnp.exe \u200f\u2066",
    "control": "a\x00b\x1b[31mc\u2028d",
    "quotes": "'\"`&amp;&lt;\\",
    "address": "a b+c%20&marked=x#y",
    "long": "x" * 1_000_000,
}


@pytest.mark.parametrize("names", [[name for name in HOSTILE if name != "long"], ["long"]], ids=["all", "long"])
def test_a_hostile_text_does_nothing_and_breaks_nothing(browser, tmp_path, names):
    """As the name of a variant, an objective, a note, an exception, a reason, a traceback, and of the data set."""
    texts = [HOSTILE[name] for name in names]
    some = several(6)
    for text in texts:
        some += [
            variant(text, loss=0.001, objective=text, notes=[text], exceptions={text: text}),
            variant(f"fails {text}", status="error", reason=text, traceback=f"Traceback\n{text}\n{text}"),
        ]
    browser.open(page.write(make_run(tmp_path / "run", some, seeds=1, dataset=" ".join(texts))))
    browser.draw()
    assert browser.faults() == []
    assert browser.run("return window.harmed === undefined")
    assert browser.run("return document.querySelectorAll('h2').length") == 7
    assert len(browser.shown()) == len(some)
    assert not browser.run("return document.documentElement.scrollWidth > innerWidth")
    # By whatever name, it is marked, and comes back from the address.
    for place in range(len(some)):
        browser.click(".mark", place)
    browser.open(tmp_path / "run" / "report.html", browser.address())
    assert browser.run("return document.querySelectorAll('tr.marked').length") == len(some)
    csv = browser.copied("csv")
    assert len(pd.read_csv(io.StringIO(csv))) == len(some)
    assert not re.search(r"(^|,)[=+@]", csv, re.MULTILINE)


@pytest.mark.parametrize(
    ("what", "variants", "options"),
    [
        ("one variant", [variant("alone")], {}),
        (
            "nothing but failures",
            [variant("a", status="error", reason="no"), variant("b", status="diverged", reason="NaN")],
            {},
        ),
        ("nothing at all yet", several(5), {"missing": 5}),
        ("interrupted", several(9), {"missing": 4}),
        ("colours, without labels", several(5), {"shape": (3, 32, 32), "labels": False}),
        ("two channels", several(4), {"shape": (2, 8, 8)}),
        ("no samples, from an aezoo of before", several(5), {"samples": False}),
        ("one seed, no speeds", several(5), {"seeds": 1, "timed": False}),
        ("a loss of zero", [variant("zero", loss=0.0), variant("other"), variant("third")], {}),
    ],
)
def test_the_page_of_any_run_has_no_fault(browser, tmp_path, what, variants, options):
    browser.open(page.write(make_run(tmp_path / "run", variants, **options)))
    browser.draw()
    assert browser.faults() == []
    assert len(browser.shown()) == len(variants)
    browser.set("#results ~ *, .group-choice", "all")
    browser.draw()
    assert browser.faults() == []


def test_the_page_fits_a_phone(browser, usual):
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        browser.open(usual)
        browser.draw()
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        assert browser.faults() == []
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_300_variants_work(browser, tmp_path):
    path = page.write(make_run(tmp_path / "run", several(300), seeds=1))
    assert path.stat().st_size < 6_000_000
    browser.open(path)
    browser.draw()
    browser.click(".mark", 150)
    browser.set(".group-choice", "all")
    assert len(browser.shown()) == 300
    assert browser.faults() == []


def test_pictures_are_the_charts_of_the_page(usual, tmp_path):
    from PIL import Image

    written = pictures.write(RunDirectory(usual.parent), tmp_path)
    names = {path.name for path in written}
    assert {
        "numbers.svg",
        "numbers.png",
        "params.svg",
        "train.png",
        "infer.png",
        "curves.svg",
        "wall.png",
        "latents-net1-latent_dim=16.svg",
    } <= names
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 300
                assert len(image.convert("RGB").getcolors(1_000_000) or []) > 5
        else:
            assert "currentColor" not in path.read_text()


def test_the_front_holds_whom_nobody_beats_in_both():
    rows = [
        {"id": n, "mse": mse, "x": {"params": params, "train": params}}
        for n, (mse, params) in enumerate([(3.0, 1), (2.0, 2), (2.5, 3), (1.0, 9), (1.0, 12)])
    ]
    assert pareto(rows, "params") == [0, 1, 3]
    assert pareto(rows, "train") == [4]


def test_several_runs_are_compared_on_one_page(browser, tmp_path):
    from aezoo.page import compared
    from aezoo.table import compare as comparison

    some = several(12)
    runs = [
        make_run(tmp_path / "a", some),
        make_run(tmp_path / "b", [{**each, "loss": each["loss"] * 1.5} for each in some]),
        make_run(tmp_path / "c", some[::-1], dataset="other </script>"),
        make_run(tmp_path / "d", some, batch_size=64),
    ]
    browser.open(compared.write(runs, tmp_path / "compared.html"))
    browser.draw()
    assert browser.faults() == []
    text = browser.run("return document.body.innerText")
    assert "Over 2 data sets, with codes of 8 numbers, net0[latent_dim=8] has the best mean rank" in text
    assert "Of 2 runs held against the first of their data set, 1 was made alike; 1 differs" in text
    refused = browser.run("return document.querySelector('#verdicts .notice').textContent")
    assert f"{runs[3].path} cannot be compared: they differ in batch_size (32, 64)" in refused
    verdicts = browser.run(
        "return [...document.querySelectorAll('#verdicts tbody td:nth-child(2)')].map(e => e.textContent)"
    )
    assert verdicts == list(comparison.compare(runs[0], runs[1])["verdict"])
    assert "worse" in verdicts
    browser.run("document.querySelector('#over').scrollIntoView()")
    assert browser.run("return document.querySelectorAll('#over svg').length") == 2


def test_a_link_that_was_cut_loses_what_was_cut_and_no_more(browser, usual):
    browser.open(usual, "#marked=net0%255Blatent_dim%253D8%255D+%25&latents=%25E0&sort=test_mse+up&group=nonsense")
    browser.draw()
    assert browser.faults() == []
    assert browser.run("return document.querySelectorAll('tr.marked').length") == 1
    assert browser.run("return document.querySelector('[aria-sort]').textContent") == "test_mse"


def test_all_sizes_are_best_first(browser, usual):
    browser.open(usual, "#group=all")
    browser.draw()
    names = browser.run("return [...document.querySelectorAll('#wall-body .name bdi')].map(e => e.textContent)")
    losses = {row["name"]: row["mse"] for row in contents(RunDirectory(usual.parent)).data["rows"]}
    assert [losses[name] for name in names] == sorted(losses[name] for name in names)
    assert names[0] in browser.run("return document.querySelector('#curves-chart').getAttribute('aria-label')")


def test_panels_that_are_closed_stay_closed(browser, usual):
    browser.open(usual)
    browser.draw()
    while browser.run("return document.querySelectorAll('.panel').length"):
        browser.click(".panel h3 button")
    browser.open(usual, browser.address())
    browser.draw()
    assert browser.run("return document.querySelectorAll('.panel').length") == 0
    assert "None is chosen" in browser.run("return document.querySelector('#latents-body').textContent")


def test_a_box_over_nothing_marks_nothing_and_points_can_still_be_clicked(browser, usual):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser.open(usual)
    browser.draw()
    browser.click(".mark", 3)
    browser.run("document.querySelector('#charts').scrollIntoView()")
    chart = browser.driver.find_element(By.CSS_SELECTOR, "#scatters .chart svg")
    point = chart.find_element(By.CSS_SELECTOR, ".mark-symbol.role-mark path")
    # Beside the point a click that slips is a small box over none.
    ActionChains(browser.driver).move_to_element_with_offset(point, 14, -14).click_and_hold().move_by_offset(
        3, -3
    ).release().perform()
    time.sleep(0.2)
    assert browser.run("return document.querySelectorAll('tr.marked').length") == 1
    ActionChains(browser.driver).move_to_element(point).click().perform()
    browser.until("return document.querySelectorAll('tr.marked').length === 2")


def test_another_group_leaves_the_marks_as_they_are(browser, usual):
    browser.open(usual, "#marked=net0%255Blatent_dim%253D8%255D")
    browser.draw()
    browser.set(".group-choice", "8 numbers")
    browser.draw()
    time.sleep(0.3)
    assert browser.run("return document.querySelectorAll('tr.marked').length") == 1
    rows = contents(RunDirectory(usual.parent)).data["rows"]
    count = sum(row["group"] == "8 numbers" and row["mse"] is not None for row in rows)
    labels = browser.run("return [...document.querySelectorAll('.chart')].map(e => e.getAttribute('aria-label'))")
    assert any(label.startswith(f"Loss against parameters: {count} variants") for label in labels)


GITHUB = """<!doctype html><html data-ready="yes"><meta charset="utf-8"><style>
body { font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; width: 950px }
table { border-collapse: collapse; display: block; width: max-content; max-width: 100%; overflow: auto }
th, td { padding: 6px 13px; border: 1px solid }</style>"""
"""A page of Markdown, as GitHub lays it out."""
RESULTS = Path(__file__).parent.parent / "results"


@pytest.mark.parametrize("name", ["mnist-5k", "digits", "photo-patches"])
def test_a_published_table_fits_githubs_page(browser, name, tmp_path):
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark").enable("table").render((RESULTS / f"{name}.md").read_text())
    (tmp_path / "page.html").write_text(GITHUB + html.split("<h3>test_mse by latent_dim")[0])
    browser.open(tmp_path / "page.html")
    widths = browser.run("return [...document.querySelectorAll('table')].map((each) => each.scrollWidth)")
    assert len(widths) > 5
    assert max(widths) <= 950
