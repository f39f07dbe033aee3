// What a better reconstruction costs, and how each variant learnt.

const counted = page.codes;

// What a scatter shows: the chosen group's variants; of the code sizes all of their kind.
function points(name) {
  const own = rows.filter((row) => row.mse > 0 && row.x[name] !== undefined && (counted.includes(name) || state.group === ALL || row.group === state.group));
  const front = page.fronts[name][counted.includes(name) ? ALL : state.group] ?? [];
  const point = (row) => ({
    id: row.id, x: row.x[name], y: row.mse, low: row.low ?? row.mse, high: row.high ?? row.mse, kind: row.kind, name: row.name, best: front.includes(row.id),
  });
  return {
    points: own.map(point), front: front.map((id) => ({ x: rows[id].x[name], y: rows[id].mse })),
    pca: name === "numbers" ? own.filter((row) => row.pca).map((row) => ({ x: row.x[name], y: row.mse })).sort((a, b) => a.x - b.x) : [],
  };
}

// What is marked, by the names of a scatter's signals.
function marks() {
  const chosen = marked();
  return { marked: Object.fromEntries([...chosen].map((id) => [id, true])), any: chosen.size > 0, crowded: chosen.size > 12 };
}

function describe(name, { points: own, front }) {
  const names = (page.fronts[name][counted.includes(name) ? ALL : state.group] ?? []).map((id) => rows[id].name);
  return `${page.titles[name]}: ${own.length} variants, each in the table. On the Pareto front: ${front.length ? names.slice(0, 12).join(", ") : "none"}.`;
}

function addScatter(name) {
  const element = make("div", { className: "chart", role: "img" });
  const figure = make("figure", {}, make("h3", { textContent: page.titles[name] }), element);
  $("#scatters").append(figure);
  const said = ({ id }) => (id === undefined ? "" : `${rows[id].name}\n${rows[id].group}\ntest MSE ${say(rows[id].mse)}\n${page.axes[name]}: ${rows[id].x[name].toLocaleString("en")}`);
  const label = () => element.setAttribute("aria-label", describe(name, points(name)));
  label();
  whenSeen(element, async () => {
    const view = await drawn(element, name, points(name), marks(), said);
    figure.append(make("figcaption", { className: "saves" }, ...saves(name, () => view)));
    let brushed = null;  // the marks that this chart's box made
    let box = "";
    const clear = () => {
      brushed = null;
      element.querySelector("svg").dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));  // what takes a box away
    };
    view.addSignalListener("brush", (_, { x, y }) => {
      requestAnimationFrame(() => {
        const now = JSON.stringify([x, y]);
        if (now === box) return;
        box = now;
        if (x && y) {
          const within = (value, [a, b]) => value >= Math.min(a, b) && value <= Math.max(a, b);
          const found = points(name).points.filter((point) => within(point.x, x) && within(point.y, y));
          // A click that slipped is no box.
          if (found.length || brushed !== null) mark(found.map((point) => point.id));
          if (found.length) brushed = state.marked;
        } else if (brushed !== null) {
          const own = brushed === state.marked;
          brushed = null;
          if (own) choose({ marked: "" });
        }
      });
    });
    view.addEventListener("click", (_, item) => { if (item?.datum?.id !== undefined && brushed === null) toggleMark(item.datum.id); });
    const showMarked = () => {
      for (const [signal, value] of Object.entries(marks())) view.signal(signal, value);
      if (brushed !== null && brushed !== state.marked) clear();
      else view.runAsync();
    };
    const showGroup = () => {
      if (brushed !== null) clear();  // its marks stay: they are of other points than those that come now
      label();
      refill(view, points(name));
    };
    on(["marked"], showMarked, element);
    if (!counted.includes(name)) on(["group"], showGroup, element);
    // What was chosen while it was drawn.
    showGroup();
    showMarked();
  });
}

const MOST = 10;  // so many colours there are
let curvesView = null;

// The learning curves that are shown: of those that are marked, or of the best of the chosen group.
function curves() {
  const has = (row) => page.curves[row.id];
  const chosen = rows.filter((row) => marked().has(row.id) && has(row));
  const best = members().filter(has).slice(0, page.curves_shown);
  const shown = (chosen.length ? chosen : best).slice(0, MOST);
  const left = (chosen.length || best.length) - shown.length;
  $("#curves-note").textContent = chosen.length
    ? `${shown.length} marked${left > 0 ? `; ${left} more are marked and not drawn` : ""}`
    : `the ${shown.length} best of ${state.group === ALL ? "all" : state.group}; mark others to see theirs`;
  const scaled = (row, step) => (state.x === "step" ? step : state.x === "image" ? step * page.batch_size : step * (page.curves[row.id].seconds ?? NaN));
  const data = shown.flatMap((row) => page.curves[row.id].steps.map((step, place) => {
    const { mean, low, high } = page.curves[row.id];
    const x = scaled(row, step);
    return { name: row.name, x, y: mean[place], low: low[place], high: high[place], tip: `${row.name}\nstep ${step}: training MSE ${say(mean[place])}` };
  })).filter((point) => Number.isFinite(point.x) && (point.y > 0 || !state.ylog));
  $("#curves-chart").setAttribute("aria-label", `Learning curves of ${shown.map((row) => row.name).join(", ") || "no variant"}; last training MSE: ${shown.map((row) => `${row.name} ${say(page.curves[row.id].mean.at(-1))}`).join(", ")}`);
  return data;
}

// One after the other: a chart that is replaced is gone before the next one is drawn.
let drawing = Promise.resolve();
function drawCurves() {
  drawing = drawing.catch(() => {}).then(drawCurvesNow);
  return drawing;
}

async function drawCurvesNow() {
  const name = `curves_${state.xlog ? "log" : "linear"}_${state.ylog ? "log" : "linear"}`;
  const title = { step: "steps", second: "seconds of training", image: "images seen" }[state.x] ?? "steps";
  const data = curves();
  if (data.length && curvesView?.name === name) {
    curvesView.view.signal("x_title", title);
    await refill(curvesView.view, { curves: data });
    return;
  }
  if (curvesView) removed(curvesView.view);
  curvesView = null;
  if (data.length) curvesView = { name, view: await drawn($("#curves-chart"), name, { curves: data }, { x_title: title }) };
  else $("#curves-chart").replaceChildren(make("p", { className: "absent", textContent: "No variant that is chosen has a learning curve." }));
}

function startCharts() {
  for (const name of Object.keys(page.fronts)) if (rows.some((row) => row.mse > 0 && row.x[name] !== undefined)) addScatter(name);
  const exact = rows.filter((row) => row.mse === 0).length;
  if (exact) $("#no-log").textContent = ` ${exact} with a loss of 0, which no log scale can show, ${exact === 1 ? "is" : "are"} not drawn.`;
  if (!$("#scatters").childElementCount) $("#scatters").append(make("p", { className: "absent", textContent: "Nothing here has a loss yet." }));
  $("#curves .saves").append(...saves("curves", () => curvesView?.view));
  let begun = false;
  whenSeen($("#curves-chart"), () => { begun = true; return drawCurves(); });
  on(["x", "xlog", "ylog", "marked", "group"], () => { if (begun) drawCurves(); else curves(); }, $("#curves"));
  $("#curves-x").addEventListener("change", (event) => choose({ x: event.target.value }));
  $("#curves-xlog").addEventListener("change", (event) => choose({ xlog: event.target.checked ? "1" : "" }));
  $("#curves-ylog").addEventListener("change", (event) => choose({ ylog: event.target.checked ? "1" : "" }));
  on(["x", "xlog", "ylog"], () => {
    $("#curves-x").value = state.x;
    $("#curves-xlog").checked = Boolean(state.xlog);
    $("#curves-ylog").checked = Boolean(state.ylog);
  });
}
