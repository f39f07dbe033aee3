// The charts: Vega draws what Altair described; expressions are interpreted, so that no text is ever run as a script.

const charts = page.charts ?? {};

// Draw a chart into an element, with these rows by the names of its data and these values by those of its signals.
async function drawn(element, name, data, signals = {}, tipOf = (datum) => datum.tip ?? "") {
  const chart = structuredClone(charts[name]);
  for (const each of chart.data) if (each.name in data) each.values = data[each.name];
  for (const each of chart.signals ?? []) if (each.name in signals) each.value = signals[each.name];
  for (const legend of chart.legends ?? []) legend.columns = Math.max(1, Math.floor(element.clientWidth / (name === "latents" ? 55 : 190)));
  chart.autosize = { type: "fit-x", contains: "padding", resize: true };
  chart.width = Math.max(200, element.clientWidth);
  const label = element.getAttribute("aria-label");
  const made = await vegaEmbed(element, chart, { mode: "vega", ast: true, actions: false, defaultStyle: false, renderer: "svg", tooltip: false, logLevel: 1 });
  if (label) element.setAttribute("aria-label", label);  // Vega has one of its own
  element.querySelector("svg").setAttribute("aria-hidden", "true");  // its text is the label of what it stands in
  const { view } = made;
  const resized = new ResizeObserver(() => {
    const width = Math.max(200, element.clientWidth);
    if (Math.abs(width - view.width()) > 1) view.width(width).runAsync();
  });
  observers.set(view, resized);
  resized.observe(element);
  view.addEventListener("pointermove", (event, item) => showTip(event, item?.datum ? tipOf(item.datum) : ""));
  view.addEventListener("pointerout", (event) => showTip(event, ""));
  return view;
}

const observers = new WeakMap();

// Take a chart away, so that another one can be drawn in its place.
function removed(view) {
  observers.get(view)?.disconnect();
  view.finalize();
}

function refill(view, data) {
  for (const [name, values] of Object.entries(data)) view.data(name, values);
  return view.runAsync();
}

// Buttons that save a chart, as the page shows it but on white.
function saves(name, view) {
  const button = (type, work) => make("button", { type: "button", textContent: type, onclick: work, ariaLabel: `Save ${name} as ${type}` });
  return [
    "Save as ",
    button("SVG", async () => view() && save(`${name}.svg`, (await view().toSVG()).replaceAll("currentColor", "#16191d"), "image/svg+xml")),
    " ",
    button("PNG", async () => {
      if (!view()) return;
      const canvas = await view().toCanvas(2);
      const paper = make("canvas", { width: canvas.width, height: canvas.height });
      const context = paper.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, paper.width, paper.height);
      context.drawImage(canvas, 0, 0);
      paper.toBlob((blob) => save(`${name}.png`, blob));
    }),
  ];
}
