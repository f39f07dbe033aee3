// The charts of a comparison: a performance profile over data sets, and mean ranks.

readAddress();
tell(null);
for (const name of ["profile", "ranks"]) {
  const element = $(`#${name}-chart`);
  if (!element || !page[name]) continue;
  whenSeen(element, async () => {
    const view = await drawn(element, name, { [name]: page[name] });
    $(`#${name}-saves`).append(...saves(name, () => view));
  });
}
addEventListener("hashchange", () => { readAddress(); tell(null); });
note();
document.documentElement.dataset.ready = "yes";
