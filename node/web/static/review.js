// Keys for the review: j next, k before, a accept, r reject, c correct. The page is complete without this.
"use strict";
const all = [...document.querySelectorAll("[data-statement]")];
let at = 0;
const show = (number) => {
  at = Math.max(0, Math.min(all.length - 1, number));
  all.forEach((item, index) => item.classList.toggle("here", index === at));
  if (all[at]) {
    all[at].focus({ preventScroll: true });
    all[at].scrollIntoView({ block: "nearest" });
  }
};
const press = (selector) => {
  const found = all[at] && all[at].querySelector(selector);
  if (found) found.click();
};
const keys = {
  j: () => show(at + 1),
  k: () => show(at - 1),
  a: () => press("button[value='accept']"),
  r: () => press("button[value='reject']"),
  c: () => press("form.decide a"),
};
if (all.length) {
  for (const hint of document.querySelectorAll("[data-keys]")) hint.hidden = false;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  all.forEach((item, index) => item.addEventListener("focusin", () => {
    at = index;
    all.forEach((other, number) => other.classList.toggle("here", number === index));
  }));
  show(0);
}
