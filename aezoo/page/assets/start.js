// Put the parts together, and bring the page to what its address says.

for (const select of $$(".group-choice")) {
  select.append(...page.groups.map((group) => make("option", { value: group, textContent: group })), make("option", { value: ALL, textContent: "all sizes" }));
  select.addEventListener("change", () => choose({ group: select.value }));
}
on(["group"], () => { for (const select of $$(".group-choice")) select.value = state.group; });
on(["theme"], () => {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  else delete document.documentElement.dataset.theme;
  $("#theme").value = state.theme;
});
on(["at"], () => { if (state.at) document.getElementById(state.at)?.scrollIntoView(); });
$("#theme").addEventListener("change", (event) => choose({ theme: event.target.value }));
$("#recipe-save").append(make("button", { type: "button", textContent: "Save as recipe.toml", onclick: () => save("recipe.toml", $("#recipe").textContent, "text/plain") }));
for (const link of $$('a[href^="#at="]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    choose({ at: link.getAttribute("href").slice(4) });
    const section = document.getElementById(state.at);
    section.tabIndex = -1;
    section.focus({ preventScroll: true });
  });
}
readAddress();
tell(null);
if ($("#charts")) {
  startCharts();
  startWall();
  startLatents();
  tell(null);
}
addEventListener("hashchange", () => { readAddress(); tell(null); });
document.documentElement.dataset.ready = "yes";
