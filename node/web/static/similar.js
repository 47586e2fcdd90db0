// The strip of similar images on a page: asked for when the page is there, so that the page does not wait for it.
// Without it (or without scripts) the link to the same answer stands under each image.
"use strict";
for (const place of document.querySelectorAll("[data-similar]")) {
  const address = `/similar?limit=5&id=${encodeURIComponent(place.dataset.similar)}`;
  fetch(address, { headers: { Accept: "application/json" } })
    .then((answer) => (answer.ok ? answer.json() : { items: [] }))
    .then((found) => {
      if (!found.items.length) return;
      const list = document.createElement("ul");
      list.className = "cards strip";
      for (const item of found.items) {
        const medium = new URL(item.medium).pathname;
        const link = document.createElement("a");
        link.href = item.specimens.length ? new URL(item.specimens[0]).pathname : medium;
        const picture = document.createElement("img");
        picture.className = "thumb";
        picture.src = `${medium}/preview.jpg`;
        picture.alt = "";
        picture.loading = "lazy";
        const text = document.createElement("div");
        text.className = "text";
        const name = document.createElement("span");
        name.textContent = item.name || "no record";
        const small = document.createElement("small");
        small.textContent = item.catalogNumber;
        const score = document.createElement("small");
        score.textContent = `similarity ${item.score}`;
        text.append(name, small, score);
        link.append(picture, text);
        const entry = document.createElement("li");
        entry.append(link);
        list.append(entry);
      }
      const title = document.createElement("h2");
      title.textContent = "Similar images";
      place.append(title, list);
    })
    .catch(() => {});
}
