// The table: it is in the page already; this sorts, filters, hides, pins and copies it.
//
// No library: itables brings DataTables offline, in 0.7 MB, but it keeps its state in the browser's storage and not in the
// address, sorts across groups unless each order is fixed beforehand, has no row that stays and is held against the others,
// and calls eval, which the page's policy forbids. What would be written beside it is most of what stands here.

const results = $("#results");
const bodies = $$("tbody", results);
const lines = $$("tr[data-id]", results).map((element) => ({
  element, body: element.parentElement, row: rows[Number(element.dataset.id)], box: $(".mark", element), pin: $(".pin", element),
  text: [...element.children].slice(1).map((cell) => cell.textContent).join(" ").toLowerCase(), cells: [...element.children].slice(1),
}));
const lineOf = new Map(lines.map((line) => [line.row.id, line]));

// "<0.02", ">=3", "=5", "1..4" for numbers; anything else is looked for in the text.
function passes(value, shown, wanted) {
  const text = wanted.trim().toLowerCase();
  const between = text.match(/^(-?[\d.]+(?:e[-+]?\d+)?)\s*\.\.\s*(-?[\d.]+(?:e[-+]?\d+)?)$/);
  const compared = text.match(/^(<=|>=|<|>|=)\s*(-?[\d.]+(?:e[-+]?\d+)?)$/);
  if (between) return typeof value === "number" && value >= Number(between[1]) && value <= Number(between[2]);
  if (!compared) return shown.toLowerCase().includes(text);
  const limit = Number(compared[2]);
  if (typeof value !== "number") return false;
  return { "<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit, "=": value === limit }[compared[1]];
}

function isShown(line, wanted, chosen) {
  if (state.complete && !line.row.complete) return false;
  if (state.onlyMarked && !chosen.has(line.row.id)) return false;
  if (wanted && !line.text.includes(wanted)) return false;
  return Object.entries(state.filters).every(([name, text]) => {
    const place = page.columns.findIndex((column) => column.name === name);
    return !text || place < 0 || passes(line.row.values[place], line.cells[place].textContent, text);
  });
}

function filter() {
  const wanted = state.find.trim().toLowerCase();
  const chosen = marked();
  let count = 0;
  for (const line of lines) {
    const shown = isShown(line, wanted, chosen);
    if (line.element.hidden === shown) line.element.hidden = !shown;
    count += shown;
  }
  for (const body of bodies) {
    const shown = lines.filter((line) => line.body === body && !line.element.hidden).length;
    body.hidden = !shown;
    $(".group .quiet", body).textContent = `${shown} variant${shown === 1 ? "" : "s"}`;
  }
  $("#count").textContent = `${count} of ${lines.length} variants${chosen.size ? `, ${chosen.size} marked` : ""}`;
}

const inOrder = new Intl.Collator("en", { numeric: true });
function sort() {
  const [name, direction] = state.sort.split(" ");
  const place = page.columns.findIndex((column) => column.name === name);
  for (const head of $$("thead tr:first-child th", results)) {
    if (place >= 0 && head.classList.contains(`c${place}`)) head.setAttribute("aria-sort", direction === "down" ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const sign = direction === "down" ? -1 : 1;
  const compare = (a, b) => {
    if (place < 0) return a.row.id - b.row.id;
    const [first, second] = [a.row.values[place], b.row.values[place]];
    if (first === null || second === null) return (first === null) - (second === null) || a.row.id - b.row.id;
    return sign * (typeof first === "string" ? inOrder.compare(first, second) : first - second) || a.row.id - b.row.id;
  };
  for (const body of bodies) body.append(...lines.filter((line) => line.body === body).sort(compare).map((line) => line.element));
}

function showMarks() {
  const chosen = marked();
  for (const line of lines) {
    const is = chosen.has(line.row.id);
    if (line.box.checked !== is) line.box.checked = is;
    line.element.classList.toggle("marked", is);
  }
  $("#clear").disabled = !chosen.size;
}

function pin() {
  const pinned = byVariant.get(state.pin);
  $("tr.pinned", results)?.remove();
  for (const line of lines) {
    const against = line.cells.at(-1);
    const ratio = pinned?.mse && line.row.mse !== null ? line.row.mse / pinned.mse : null;
    if (pinned || against.textContent) against.textContent = ratio === null ? "" : ratio.toFixed(3);
    const is = line.row === pinned;
    if (line.pin.getAttribute("aria-pressed") !== String(is)) line.pin.setAttribute("aria-pressed", is);
  }
  if (pinned) {
    const copy = lineOf.get(pinned.id).element.cloneNode(true);
    copy.className = "pinned";
    copy.hidden = false;
    delete copy.dataset.id;
    $(".own", copy).replaceChildren(make("button", { type: "button", className: "pin", ariaPressed: "true", ariaLabel: `Unpin ${pinned.name}`, textContent: "pin", onclick: () => { choose({ pin: "" }); lineOf.get(pinned.id).pin.focus(); } }));
    $("thead", results).append(copy);
  }
  hide();
}

function hide() {
  const names = state.hide.split(" ");
  const hidden = page.columns.flatMap((column, place) => (names.includes(column.name) ? [String(place)] : []));
  for (const box of $$("#columns input")) box.checked = !hidden.includes(box.dataset.column);
  results.dataset.hide = [...hidden, ...(byVariant.has(state.pin) ? [] : ["pin"])].join(" ");
  setWidths();
}

// Columns have a width of their own from the beginning, and a row is a grid: whatever moves, the browser measures no other
// row, and lays out none that nobody sees.
const heads = $$("thead tr:first-child th", results);
const ARROW = 30;  // with what is around it: where a name is the widest of its column, there is room for its arrow
const widths = heads.map((head) => {
  const name = $(".sort", head)?.getBoundingClientRect().width ?? 0;
  const width = Math.ceil(Math.max(head.getBoundingClientRect().width, name + ARROW));
  return head.textContent === "variant" ? Math.min(width, 260) : width;  // it takes what room there is
});
results.classList.add("grid");
function setWidths() {
  const hidden = results.dataset.hide.split(" ");
  const shown = heads.map((head, place) => [head, widths[place]]).filter(([head]) => !hidden.includes(head.classList[0].slice(1)));
  const name = heads.find((head) => head.textContent === "variant");
  results.style.setProperty("--columns", shown.map(([head, width]) => (head === name ? `minmax(${width}px, 1fr)` : `${width}px`)).join(" "));
  for (const head of $$("tr.group th", results)) head.colSpan = shown.length;
  results.style.minWidth = `${shown.reduce((sum, [, width]) => sum + width, 0)}px`;
}

// The rows and columns that are shown, but for what is held against a pinned one: every digit for programs, the table's own
// texts for people.
function shownTable(digits) {
  const hidden = results.dataset.hide.split(" ");
  const places = page.columns.map((_, place) => place).filter((place) => !hidden.includes(String(place)));
  const head = ["group", ...places.map((place) => (digits ? page.columns[place].name : page.columns[place].header))];
  const ordered = $$("tbody tr[data-id]", results).filter((element) => !element.hidden && !element.parentElement.hidden);
  const body = ordered.map((element) => {
    const line = lineOf.get(Number(element.dataset.id));
    return [line.row.group, ...places.map((place) => (digits ? line.row.values[place] ?? "" : line.cells[place].textContent))];
  });
  return { head, body, left: [true, ...places.map((place) => page.columns[place].text)] };
}

const formats = {
  csv() {
    const { head, body } = shownTable(true);
    const cell = (value) => {
      let text = String(value);
      if (typeof value === "string" && /^[=+\-@]/.test(text)) text = `'${text}`;  // no spreadsheet reads it as a formula
      return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [head, ...body].map((cells) => cells.map(cell).join(",")).join("\n") + "\n";
  },
  markdown() {
    const { head, body, left } = shownTable(false);
    const line = (cells) => `| ${cells.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
    return [line(head), `|${left.map((is) => (is ? ":--" : "--:")).join("|")}|`, ...body.map(line)].join("\n") + "\n";
  },
  latex() {
    const { head, body, left } = shownTable(false);
    const signs = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "±": "$\\pm$", "…": "\\ldots{}" };
    const cell = (text) => text.replace(/[\\~^<>±…]|[&%$#_{}]/g, (sign) => signs[sign] ?? `\\${sign}`);
    const line = (cells) => `${cells.map(cell).join(" & ")} \\\\`;
    return [`\\begin{tabular}{${left.map((is) => (is ? "l" : "r")).join("")}}`, "\\hline", line(head), "\\hline", ...body.map(line), "\\hline", "\\end{tabular}"].join("\n") + "\n";
  },
  link: () => location.href.split("#")[0] + address(),
};

async function copy(format) {
  const text = formats[format]();
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text });
    $("#copy .sheet").append(area);
    area.select();
    done = document.execCommand("copy");  // where the page is not trusted with the clipboard
    area.remove();
  }
  $("#copied").textContent = done ? `copied: ${format}` : "this browser lets no page copy";
  $("#copy").open = false;
  $("#copy summary").focus();
  setTimeout(() => { $("#copied").textContent = ""; }, 3000);
}

results.addEventListener("click", (event) => {
  const head = event.target.closest("[data-sort]");
  const line = lineOf.get(Number(event.target.closest("tr[data-id]")?.dataset.id));
  if (head) {
    const { name } = page.columns[Number(head.dataset.sort)];
    choose({ sort: state.sort === `${name} up` ? `${name} down` : state.sort === `${name} down` ? "" : `${name} up` });
  } else if (line && event.target.closest(".pin")) choose({ pin: state.pin === line.row.variant ? "" : line.row.variant });
});
results.addEventListener("change", (event) => { if (event.target.matches(".mark")) toggleMark(Number(event.target.closest("tr").dataset.id)); });
results.addEventListener("input", (event) => {
  const place = event.target.dataset.filter;
  if (place !== undefined) choose({ filters: { ...state.filters, [page.columns[Number(place)].name]: event.target.value } });
});
$("#find").addEventListener("input", (event) => choose({ find: event.target.value }));
$("#complete").addEventListener("change", (event) => choose({ complete: event.target.checked ? "1" : "" }));
$("#only-marked").addEventListener("change", (event) => choose({ onlyMarked: event.target.checked ? "1" : "" }));
$("#clear").addEventListener("click", () => choose({ marked: "" }));
$("#filters").addEventListener("click", () => showFilters($("tr.filters").hidden));
$("#columns").addEventListener("change", (event) => {
  const hidden = new Set(state.hide.split(" ").filter(Boolean));
  hidden[event.target.checked ? "delete" : "add"](page.columns[Number(event.target.dataset.column)].name);
  choose({ hide: page.columns.map((column) => column.name).filter((name) => hidden.has(name)).join(" ") });
});
for (const button of $$("[data-copy]")) button.addEventListener("click", () => copy(button.dataset.copy));
addEventListener("click", (event) => { for (const menu of $$(".menu[open]")) if (!menu.contains(event.target)) menu.open = false; });
addEventListener("keydown", (event) => { if (event.key === "Escape") for (const menu of $$(".menu[open]")) { menu.open = false; $("summary", menu).focus(); } });

function showFilters(are) {
  $("tr.filters").hidden = !are;
  $("#filters").setAttribute("aria-expanded", String(are));
}

function fillTools() {
  const put = (selector, value) => { const input = $(selector); if (input.value !== value) input.value = value; };
  put("#find", state.find);
  $("#complete").checked = Boolean(state.complete);
  $("#only-marked").checked = Boolean(state.onlyMarked);
  for (const input of $$("[data-filter]")) put(`[data-filter="${input.dataset.filter}"]`, state.filters[page.columns[Number(input.dataset.filter)].name] ?? "");
  if (Object.values(state.filters).some(Boolean)) showFilters(true);
}

on(["marked"], showMarks);
on(["find", "complete", "onlyMarked", "filters", "marked"], filter);
on(["sort"], sort);
on(["pin"], pin);
on(["hide"], hide);
on(["find", "filters", "complete", "onlyMarked"], fillTools);
