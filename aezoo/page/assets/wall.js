// The wall of reconstructions, with error maps by choice, and the images on which variants differ most.

const looks = page.looks ?? { variants: {} };
const strips = new Map();

// Decode a strip of images side by side, once: {pixels, count, width, height} of RGBA bytes.
function strip(base64, count) {
  if (!strips.has(base64)) {
    strips.set(base64, new Promise((resolve, reject) => {
      const picture = new Image();
      picture.onload = () => {
        const canvas = make("canvas", { width: picture.width, height: picture.height });
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(picture, 0, 0);
        resolve({ data: context.getImageData(0, 0, picture.width, picture.height), count, width: picture.width / count, height: picture.height });
      };
      picture.onerror = () => reject(new Error("a picture of this page cannot be read"));
      picture.src = `data:image/png;base64,${base64}`;
    }));
  }
  return strips.get(base64);
}

// Blue where it is too dark, red where it is too bright; at full strength from half the range on.
function errorMap(data, against) {
  const map = new ImageData(data.width, data.height);
  for (let place = 0; place < data.data.length; place += 4) {
    let difference = 0;
    for (let channel = 0; channel < 3; channel += 1) difference += data.data[place + channel] - against.data[place + channel];
    const share = Math.max(-1, Math.min(1, difference / 3 / 128));
    const end = share < 0 ? [33, 102, 172] : [178, 24, 43];
    for (let channel = 0; channel < 3; channel += 1) map.data[place + channel] = Math.round(247 + (end[channel] - 247) * Math.abs(share));
    map.data[place + 3] = 255;
  }
  return map;
}

const gap = 1;  // a pixel between two images

// Give a canvas the size of its strip, before there is one: so that nothing moves when it comes.
function fit(canvas, { count, width, height }, upright) {
  canvas.width = upright ? width : count * (width + gap) - gap;
  canvas.height = upright ? count * (height + gap) - gap : height;
  canvas.classList.toggle("upright", upright);
}

// Draw a strip into a canvas, in a row or in a column.
function paint(canvas, { data, count, width, height }, upright) {
  fit(canvas, { count, width, height }, upright);
  const context = canvas.getContext("2d");
  for (let place = 0; place < count; place += 1) {
    const [x, y] = upright ? [0, place * (height + gap)] : [place * (width + gap), 0];
    context.putImageData(data, x - place * width, y, place * width, 0, width, height);
  }
}

function imageName(place) {
  const { places, reasons, labels } = looks.images;
  const label = labels[place] === null ? "" : `, label ${labels[place]}`;
  return `test image ${places[place]}${label} (${reasons[place]})`;
}

function wallLine(row, count) {
  const name = make("div", { className: "name" });
  const canvas = make("canvas", { role: "img" });
  const line = make("div", { className: "strip" }, name, canvas);
  line.style.setProperty("--count", count);
  fit(canvas, { count, width: looks.size[1], height: looks.size[0] }, state.by === "columns");
  if (!row) {
    name.append("the images themselves");
    canvas.setAttribute("aria-label", `The test images: ${looks.images.reasons.map((_, place) => imageName(place)).join("; ")}`);
    whenSeen(line, async () => paint(canvas, await strip(looks.images.pixels, count), state.by === "columns"));
    return line;
  }
  const own = looks.variants[row.id];
  name.append(make("bdi", { textContent: row.name, title: row.name }), make("small", { textContent: `test MSE ${say(row.mse)}${own?.clipped > 0.0005 ? ` · ${(100 * own.clipped).toFixed(1)} % of pixels clipped` : ""}` }));
  if (!own || own.absent) {
    canvas.remove();
    line.append(make("span", { className: "absent", textContent: `not shown: ${own?.absent ?? "nothing was kept"}` }));
    return line;
  }
  const what = state.show === "errors" ? "error maps" : "reconstructions";
  canvas.setAttribute("aria-label", `${row.name}: ${what} of ${count} test images, seed ${own.seed}, test MSE of each: ${own.errors.map(say).join(", ")}`);
  canvas.addEventListener("pointermove", (event) => {
    const upright = state.by === "columns";
    const { width, height } = canvas.getBoundingClientRect();
    const place = Math.min(count - 1, Math.max(0, Math.floor((upright ? event.offsetY / height : event.offsetX / width) * count)));
    showTip(event, `${row.name}\n${imageName(place)}\ntest MSE ${say(own.errors[place])}`);
  });
  canvas.addEventListener("pointerout", (event) => showTip(event, ""));
  whenSeen(line, async () => {
    const image = await strip(own.pixels, count);
    const original = state.show === "errors" ? await strip(looks.images.pixels, count) : null;
    paint(canvas, original ? { ...image, data: errorMap(image.data, original.data) } : image, state.by === "columns");
  });
  return line;
}

function drawWall() {
  const body = $("#wall-body");
  body.replaceChildren();
  body.classList.toggle("columns", state.by === "columns");
  if (!looks.images) {
    body.append(make("p", { className: "absent", textContent: looks.why }));
    return;
  }
  const count = looks.images.places.length;
  const reasons = make("div", { className: "strip" }, make("div", { className: "name" }), make("div", { className: "reasons", ariaHidden: "true" }, ...looks.images.reasons.map((reason) => make("span", { textContent: reason.replace(" for PCA", "") }))));
  reasons.style.setProperty("--count", count);
  const shown = members();
  const chosen = marked();
  const lines = shown.map((row) => {
    const line = wallLine(row, count);
    line.classList.toggle("marked", chosen.has(row.id));
    line.dataset.id = row.id;
    return line;
  });
  body.append(reasons, wallLine(null, count), ...lines);
  const seeds = [...new Set(shown.map((row) => looks.variants[row.id]?.seed).filter((seed) => seed !== undefined))].sort();
  $("#wall-note").replaceChildren(`${shown.length} variants, best first; seed ${seeds.join(" or ") || "-"}`);
  if (state.show === "errors") $("#wall-note").append("; too dark ", make("span", { className: "scale", role: "img", ariaLabel: "from blue, too dark, to red, too bright" }), " too bright");
}

function startWall() {
  const smaller = looks.size && (looks.size[0] !== looks.shape[1] || looks.size[1] !== looks.shape[2]) ? ` Shown at ${looks.size[0]}x${looks.size[1]}, made smaller from ${looks.shape[1]}x${looks.shape[2]}.` : "";
  const channels = looks.shape && ![1, 3].includes(looks.shape[0]) ? ` Of ${looks.shape[0]} channels their mean is shown.` : "";
  $("#wall-rule").textContent = `The same test images for every variant, chosen once, by how well a PCA of 16 components reconstructs each: the middle one of each label, where there are labels (the ten most frequent), then the easiest, the most typical and the hardest. What lies outside [0, 1] is clipped, and its share is told where it is above 0.05 %.${smaller}${channels}`;
  whenSeen($("#wall-body"), () => {
    drawWall();
    on(["group", "show", "by"], drawWall, $("#wall"));
    on(["marked"], () => { const chosen = marked(); for (const line of $$("#wall-body [data-id]")) line.classList.toggle("marked", chosen.has(Number(line.dataset.id))); }, $("#wall"));
  });
  $("#wall-show").addEventListener("change", (event) => choose({ show: event.target.value }));
  $("#wall-by").addEventListener("change", (event) => choose({ by: event.target.value }));
  on(["show", "by"], () => { $("#wall-show").value = state.show; $("#wall-by").value = state.by; });
  whenSeen($("#atlas-body"), () => { drawAtlas(); on(["group"], drawAtlas, $("#atlas")); });
}

function drawAtlas() {
  const body = $("#atlas-body");
  const own = page.atlas.groups[state.group] ?? [];
  body.replaceChildren();
  if (!own.length) body.append(make("p", { className: "absent", textContent: page.atlas.groups[state.group] ? "They differ on no image." : "It takes three variants with a loss to say where they differ." }));
  for (const each of own) {
    const place = page.atlas.places.indexOf(each.place);
    const title = `test image ${each.place}${each.label === null ? "" : `, label ${each.label}`}`;
    const picture = place < 0 ? make("span", { className: "absent", textContent: "the run does not keep it" }) : make("canvas", { role: "img", ariaLabel: title });
    const named = (some, name) => some.map(({ id, times, error }) => make("li", {}, make("b", { className: name, textContent: `${times >= 100 ? Math.round(times).toLocaleString("en") : times >= 0.1 ? times.toPrecision(2) : times.toExponential(1)}×` }), make("bdi", { textContent: rows[id].name, title: rows[id].name }), make("span", { textContent: say(error) })));
    body.append(make("div", { className: "card" }, picture, make("div", {}, make("h3", { textContent: title }), make("ul", { ariaLabel: "worst and best on it" }, ...named(each.worst, "worse"), ...named(each.best, "better")))));
    if (place >= 0) whenSeen(picture, async () => {
      const all = await strip(page.atlas.pixels, page.atlas.places.length);
      picture.width = all.width;
      picture.height = all.height;
      picture.getContext("2d").putImageData(all.data, -place * all.width, 0, place * all.width, 0, all.width, all.height);
    });
  }
}
