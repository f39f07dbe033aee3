// Put the parts together, and bring the page to what its address says.

for (const select of $$(".group-choice")) {
  select.append(...page.groups.map((group) => make("option", { value: group, textContent: group })), make("option", { value: ALL, textContent: "all sizes" }));
  select.addEventListener("change", () => choose({ group: select.value }));
}
on(["group"], () => { for (const select of $$(".group-choice")) select.value = state.group; });
$("#recipe-save").append(make("button", { type: "button", textContent: "Save as recipe.toml", onclick: () => save("recipe.toml", $("#recipe").textContent, "text/plain") }));
readAddress();
startCharts();
startWall();
startLatents();
tell(null);
addEventListener("hashchange", () => { readAddress(); tell(null); });
document.documentElement.dataset.ready = "yes";
