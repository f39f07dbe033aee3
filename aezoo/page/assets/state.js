// What the reader chose: kept in the address, so that a view can be sent. Every part of the page hears of a change.

const page = JSON.parse(document.getElementById("data").textContent);
const rows = page.rows;
const ALL = "all";
const byVariant = new Map(rows.map((row) => [row.variant, row]));
const defaults = {
  find: "", complete: "", onlyMarked: "", sort: "", hide: page.columns.filter((column) => column.hidden).map((column) => column.name).join(" "),
  pin: "", group: page.largest, x: "step", xlog: "", ylog: "1", show: "images", by: "rows", latents: "", marked: "", theme: "", at: "",
};
const state = { ...defaults, filters: {} };
const listeners = [];

function $(selector, within = document) { return within.querySelector(selector); }
function $$(selector, within = document) { return [...within.querySelectorAll(selector)]; }

// Make an element: its text is text, whatever stands in it.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "role") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function marked() { return new Set(listed(state.marked).map((variant) => byVariant.get(variant)?.id).filter((id) => id !== undefined)); }

// Variants in the address: a name may hold any sign, so each is encoded by itself.
function listed(text) {
  return text.split(" ").filter(Boolean).flatMap((part) => {
    try {
      return [decodeURIComponent(part)];
    } catch {
      return [];  // an address that was cut
    }
  });
}
function joined(variants) { return variants.map(encodeURIComponent).join(" "); }

function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, defaults, { filters: {} });
  for (const [name, value] of wanted) {
    if (name.startsWith("where.")) state.filters[name.slice(6)] = value;
    else if (Object.hasOwn(defaults, name)) state[name] = value;
  }
  if (state.group !== ALL && !page.groups.includes(state.group)) state.group = page.largest;
}

function address() {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(defaults)) if (state[name] !== value) kept.set(name, state[name]);
  for (const [name, value] of Object.entries(state.filters)) if (value) kept.set(`where.${name}`, value);
  return `#${kept}`;
}

function choose(changes) {
  Object.assign(state, changes);
  tell(new Set(Object.keys(changes)));
  clearTimeout(writing);
  writing = setTimeout(writeAddress, 200);
}

// A browser lets a page write its address only so often.
let writing = 0;
function writeAddress() {
  const now = address();
  try {
    if (now !== location.hash && !(now === "#" && !location.hash)) history.replaceState(null, "", now);
  } catch {
    writing = setTimeout(writeAddress, 2000);
  }
}

function tell(changed) { for (const listener of listeners) listener(changed); }

// Call `update` whenever one of these choices changes; null stands for all at once. What is in a section that nobody sees
// waits until there is time.
const inView = new Set();
const late = new Set();
const sections = new IntersectionObserver((entries) => { for (const entry of entries) inView[entry.isIntersecting ? "add" : "delete"](entry.target); });
function on(names, update, section = null) {
  if (section) sections.observe(section);
  listeners.push((changed) => {
    if (changed !== null && !names.some((name) => changed.has(name))) return;
    if (!section) update();
    else if (inView.has(section)) soon(update);
    else { late.add(update); note(); }
  });
}

// What is drawn anew is drawn in turn, so that the page answers in between.
const queue = new Set();
function soon(update) {
  late.delete(update);
  if (!queue.size) setTimeout(workOff);
  queue.add(update);
}
function workOff() {
  const begun = performance.now();
  try {
    for (const update of queue) {
      queue.delete(update);
      update();
      if (performance.now() - begun > 20) break;
    }
  } finally {
    if (queue.size) setTimeout(workOff);
    note();
  }
}

function mark(ids) { choose({ marked: joined([...ids].sort((a, b) => a - b).map((id) => rows[id].variant)) }); }
function toggleMark(id) {
  const now = marked();
  if (!now.delete(id)) now.add(id);
  mark(now);
}

// The rows of the group that is chosen, which have a loss, best first.
function members() {
  if (state.group === ALL) return rows.filter((row) => row.mse !== null).sort((a, b) => a.mse - b.mse);
  return rows.filter((row) => row.mse !== null && row.group === state.group);
}

function say(value) { return value === null || value === undefined ? "-" : value >= 1e-3 || value === 0 ? value.toFixed(5) : value.toPrecision(3); }

const tip = $("#tip");
function showTip(event, text) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4))}px`;
}

function save(name, content, type) {
  const link = make("a", { download: name, href: URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Do something once: when an element is about to be seen, or when there is time, so that all is there for a printer.
const waiting = new Map();
let working = 0;
const seen = new IntersectionObserver((entries) => { for (const entry of entries) if (entry.isIntersecting) draw(entry.target); }, { rootMargin: "400px" });
const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));

async function draw(element) {
  const work = waiting.get(element);
  if (!work) return;
  waiting.delete(element);
  seen.unobserve(element);
  working += 1;
  try {
    if (element.isConnected) await work();
  } finally {
    working -= 1;
    note();
  }
}

function whenSeen(element, work) {
  waiting.set(element, work);
  seen.observe(element);
  note();
}

let noting = false;
function note() {
  document.documentElement.dataset.drawn = waiting.size || late.size || queue.size || working ? "not yet" : "yes";
  if (noting || !(waiting.size || late.size)) return;
  noting = true;
  idle(async () => {
    noting = false;
    const [update] = late;
    const [element] = waiting.keys();
    if (update) { late.delete(update); update(); } else if (element) await draw(element);
    note();
  });
}
addEventListener("beforeprint", () => {
  for (const update of [...queue, ...late]) update();
  queue.clear();
  late.clear();
  for (const element of waiting.keys()) draw(element);  // those too that come while it draws
});
