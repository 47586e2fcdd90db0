// Points at a line, shows its box, and the other way round. The page is complete without this.
"use strict";
{
  const regionAt = (target) => target instanceof Element ? target.closest(".lines [data-region], svg [data-region]") : null;
  const mark = (event, on) => {
    const item = regionAt(event.target);
    if (item === null) return;
    const id = CSS.escape(item.dataset.region);
    for (const same of document.querySelectorAll(`[data-region="${id}"]`)) same.classList.toggle("on", on);
  };
  for (const name of ["mouseover", "focusin"]) document.addEventListener(name, (event) => mark(event, true));
  for (const name of ["mouseout", "focusout"]) document.addEventListener(name, (event) => mark(event, false));
}
