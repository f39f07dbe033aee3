// Latent spaces, a panel a variant: its codes, what lies between two images, and how its units or codes are used.

const SIDE_BY_SIDE = 12;
const NONE = "-";
const panels = new Map();

function codes(id) {
  const { units, numbers, scale } = looks.variants[id].latents;
  const bytes = Uint8Array.from(atob(units), (sign) => sign.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const value = (place) => (view.getInt16(2 * place, true) / 32767) * scale;
  const { latent_places: places, latent_labels: labels } = looks.images;
  return places.map((image, place) => {
    const label = labels[place] === null ? "test images" : String(labels[place]);
    return { x: value(place * numbers), y: numbers > 1 ? value(place * numbers + 1) : 0, label, tip: `test image ${image}${labels[place] === null ? "" : `\nlabel ${label}`}` };
  }).sort((a, b) => inOrder.compare(a.label, b.label));
}

// The variants with a panel: those of the address, or else the best with two numbers, and the best of the largest group.
function inPanels() {
  if (state.latents === NONE) return [];
  const named = listed(state.latents).map((variant) => byVariant.get(variant)).filter((row) => row && row.mse !== null);
  if (named.length) return named;
  const has = (row) => row.mse !== null && looks.variants[row.id]?.latents;
  const two = rows.find((row) => row.group === "2 numbers" && !row.pca && has(row));
  const best = rows.filter((row) => row.group === page.largest && has(row));
  return [...new Set([two, best[0], best.find((row) => row.pca)].filter(Boolean))].slice(0, 3);
}

function percent(share) { return `${(100 * share).toFixed(0)} % of the variance`; }

function panel(row) {
  const own = looks.variants[row.id];
  const element = make("div", { className: "panel" });
  const close = make("button", { type: "button", textContent: "×", ariaLabel: `Remove ${row.name}`, onclick: () => {
    choose({ latents: joined(inPanels().filter((other) => other !== row).map((other) => other.variant)) || NONE });
    $("#latents-add").focus();
  } });
  element.append(make("h3", {}, make("bdi", { textContent: row.name }), close), make("p", { textContent: `${row.group}, test MSE ${say(row.mse)}` }));
  if (!own || own.absent || !looks.images) {
    element.append(make("p", { className: "absent", textContent: `not shown: ${own?.absent ?? "nothing was kept"}` }));
    return element;
  }
  const drawing = (name, data, signals, alternative) => {
    const chart = make("div", { className: "chart", role: "img", ariaLabel: alternative });
    const saving = make("p", { className: "saves" });
    element.append(chart, saving);
    whenSeen(chart, async () => { const view = await drawn(chart, name, data(), signals); saving.append(...saves(`${name}-${row.id}`, () => view)); });
  };
  if (own.latents) {
    const { numbers, explained } = own.latents;
    element.append(make("p", { textContent: explained ? `its first two principal components: ${percent(explained[0] + explained[1])}` : numbers === 2 ? "its two numbers as they are" : "its one number as it is" }));
    const axis = (place) => (explained ? `component ${place + 1}: ${percent(explained[place])}` : place < numbers ? `number ${place + 1}` : "");
    drawing("latents", () => ({ latents: codes(row.id) }), { x_title: axis(0), y_title: axis(1) }, `${row.name}: the codes of ${looks.images.latent_places.length} test images, in the colours of their labels`);
  } else if (own.missing.latents) element.append(make("p", { className: "absent", textContent: `no latents: ${own.missing.latents}` }));
  if (own.between) {
    const [first, second] = looks.images.pair;
    const canvas = make("canvas", { role: "img", ariaLabel: `${row.name}: from ${imageName(first)} to ${imageName(second)}, on the line between their codes` });
    element.append(make("p", { textContent: `from image ${looks.images.places[first]} to image ${looks.images.places[second]}, on the line between their codes` }), make("div", { className: "between" }, canvas));
    whenSeen(canvas, async () => paint(canvas, await strip(own.between, own.frames), false));
  } else if (own.missing.interpolation && own.latents) element.append(make("p", { className: "absent", textContent: `nothing between two images: ${own.missing.interpolation}` }));
  if (own.activity) {
    const { shares, units, dead } = own.activity;
    element.append(make("p", { textContent: `${units} units, ${dead} of them never active on these images` }));
    drawing("bars", () => ({ bars: shares.map(([x, y]) => ({ x, y })) }), { x_title: "units, most active first", y_title: "share of images" }, `${row.name}: in what share of images each unit is active`);
  }
  for (const name of ["activity", "usage"]) if (own.missing[name]) element.append(make("p", { className: "absent", textContent: `no ${name} of its code: ${own.missing[name]}` }));
  if (own.usage) {
    const { shares, used, codes: all, perplexity } = own.usage;
    element.append(make("p", { textContent: `${used} of ${all} codes used on these images; perplexity ${perplexity.toFixed(1)}` }));
    drawing("bars", () => ({ bars: shares.map(([x, y]) => ({ x, y })) }), { x_title: "codes, most used first", y_title: "share of uses" }, `${row.name}: how often each code is used`);
  }
  return element;
}

function drawPanels() {
  const body = $("#latents-body");
  const wanted = inPanels();
  const shown = wanted.slice(0, SIDE_BY_SIDE);
  for (const [id, element] of panels) if (!shown.some((row) => row.id === id)) { element.remove(); panels.delete(id); }
  for (const row of shown) {
    if (!panels.has(row.id)) panels.set(row.id, panel(row));
    body.append(panels.get(row.id));
  }
  $("#latents-note").textContent = wanted.length > shown.length ? `${wanted.length - shown.length} more are chosen and not drawn` : "";
  if (!shown.length) body.replaceChildren(make("p", { className: "absent", textContent: state.latents === NONE ? "None is chosen." : "No variant here keeps a latent." }));
  else $(":scope > .absent", body)?.remove();
}

function startLatents() {
  const images = looks.images;
  const labels = new Set((images?.latent_labels ?? []).filter((label) => label !== null));
  const coloured = !labels.size ? "" : labels.size > 20 ? ", in twenty colours for their labels, so that some share one" : ", in the colours of their labels";
  $("#latents-rule").textContent = images
    ? `The codes of the same ${images.latent_places.length} test images, evenly spaced over the test set${coloured}: as they are up to two numbers, else their first two principal components, whose share of the variance is told. Between two images (${images.pair.map((place) => images.places[place]).join(" and ")}) each decoder is led along the line between their codes.`
    : looks.why;
  const add = $("#latents-add");
  add.append(make("option", { value: "", textContent: "a variant" }), ...rows.filter((row) => row.mse !== null).map((row) => make("option", { value: row.variant, textContent: row.name })));
  $("#latents-add-button").addEventListener("click", () => {
    if (add.value) choose({ latents: joined([...new Set([...inPanels().map((row) => row.variant), add.value])]) });
  });
  $("#latents-marked").addEventListener("click", () => choose({ latents: state.marked }));
  on(["marked"], () => { $("#latents-marked").disabled = !state.marked; });
  whenSeen($("#latents-body"), () => { drawPanels(); on(["latents"], drawPanels, $("#latents")); });
}
