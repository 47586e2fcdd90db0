// Points at a line, shows its box, and the other way round. The page is complete without this.
"use strict";
for (const [list, boxes] of [[".lines li[data-region]", "svg.over g[data-region]"]]) {
  const find = (selector, id) => document.querySelectorAll(selector + "[data-region='" + CSS.escape(id) + "']");
  const mark = (id, on) => {
    for (const item of [...find(".lines li", id), ...find("svg.over g", id)]) item.classList.toggle("on", on);
  };
  for (const item of document.querySelectorAll(list + "," + boxes)) {
    item.addEventListener("mouseenter", () => mark(item.dataset.region, true));
    item.addEventListener("mouseleave", () => mark(item.dataset.region, false));
  }
}
