// Keeps a job's figures up to date while it runs. Without scripts the page says to load it again.
"use strict";
const live = document.querySelector("[data-live]");
if (live) {
  for (const hint of document.querySelectorAll("[data-without-script]")) hint.hidden = true;
  const tick = async () => {
    try {
      const answer = await fetch(live.dataset.live, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.querySelector("[data-live]");
        if (fresh) {
          live.replaceChildren(...fresh.childNodes);
          live.dataset.finished = fresh.dataset.finished;
        }
      }
    } catch (error) { /* the node is restarting: try again */ }
    if (live.dataset.finished !== "yes") setTimeout(tick, 1500);
  };
  if (live.dataset.finished !== "yes") setTimeout(tick, 1000);
}
