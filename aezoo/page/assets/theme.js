// Colours, and the way to a part of the page: the address holds both.

on(["theme"], () => {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  else delete document.documentElement.dataset.theme;
  $("#theme").value = state.theme;
});
on(["at"], () => { if (state.at) document.getElementById(state.at)?.scrollIntoView(); });
$("#theme").addEventListener("change", (event) => choose({ theme: event.target.value }));
for (const link of $$('a[href^="#at="]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    choose({ at: link.getAttribute("href").slice(4) });
    const section = document.getElementById(state.at);
    section.tabIndex = -1;
    section.focus({ preventScroll: true });
  });
}
