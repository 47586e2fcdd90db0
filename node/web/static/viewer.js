// Makes the pictures of a page zoomable: OpenSeadragon over the IIIF Image API, with the boxes of the page laid over it,
// a scale bar and a ruler where the resolution is known. Without this script, or without the image service, the page
// shows what it shows anyway: a preview with boxes, and a link to the larger picture.
"use strict";
{
  const NS = "http://www.w3.org/2000/svg";
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const HELP = "Arrow keys move, plus and minus zoom, 0 shows the whole image, R and Shift R turn it, F mirrors it.";
  const MEASURE_HELP = "Click two points, or press Enter to set a point in the middle. Escape ends.";
  const ICONS = {
    in: "M10 4v12M4 10h12", out: "M4 10h12", home: "M4 8V4h4M12 4h4v4M16 12v4h-4M8 16H4v-4",
    left: "M5 4v4h4M5.5 8A6 6 0 1 1 4 12", right: "M15 4v4h-4M14.5 8A6 6 0 1 0 16 12",
    flip: "M10 3v14M7 6v8H3zM13 6v8h4z", boxes: "M3 5h8v6H3zM9 9h8v6H9z",
    ruler: "M3 13 13 3l4 4L7 17zM6.5 9.5l1.5 1.5M9 7l1.5 1.5M11.5 4.5 13 6",
    find: "M8.5 3.5a5 5 0 1 1 0 10 5 5 0 0 1 0-10M12 12l5 5",
    full: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4M7 7l-4-4M13 7l4-4M13 13l4 4M7 13l-4 4",
  };

  const make = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const draw = (name, attributes = {}, ...children) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const icon = (name) => draw("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, draw("path", { d: ICONS[name] }));

  const lengthText = (mm) => {
    if (mm >= 1000) return `${(mm / 1000).toFixed(2)} m`;
    if (mm >= 100) return `${(mm / 10).toFixed(2)} cm`;
    return mm >= 1 ? `${mm.toFixed(1)} mm` : `${(mm * 1000).toFixed(0)} µm`;
  };
  const barText = (mm) => {
    if (mm >= 1000) return `${mm / 1000} m`;
    if (mm >= 10) return `${mm / 10} cm`;
    return mm >= 1 ? `${mm} mm` : `${Math.round(mm * 1000)} µm`;
  };
  // The largest of 1, 2, 5 times a power of ten that is not longer.
  const roundLength = (mm) => {
    const power = 10 ** Math.floor(Math.log10(mm));
    return [5, 2, 1].find((step) => step * power <= mm * 1.0000001) * power;
  };

  class Zoomable {
    constructor(stage) {
      this.stage = stage;
      this.service = stage.dataset.viewer;
      this.pxPerMm = Number(stage.dataset.pxPerMm) || 0;
      this.points = [];
      this.isMeasuring = false;
      stage.dataset.tiles = stage.dataset.failed = "0";
    }

    async start() {
      let info;
      try {
        const answer = await fetch(`${this.service}/info.json`, { headers: { Accept: "application/json" } });
        if (answer.ok) info = await answer.json();
      } catch { /* no service: the preview stays */ }
      if (!info) {
        this.stage.dataset.state = "failed";
        return;
      }
      info.id = new URL(this.service, location.href).href; // also behind another name of the same node
      this.place(info);
    }

    place(info) {
      const view = make("div", { class: "zoom" });
      this.stage.append(view);
      // OpenSeadragon adds inline style for touch screens unless an element says that it is there. The security policy
      // allows none, so this one says so: an element of no namespace, which styles nothing.
      if (!document.querySelector("style[data-openseadragon-mobile-css]")) {
        const said = document.createElementNS(null, "style");
        said.setAttribute("data-openseadragon-mobile-css", "");
        document.head.append(said);
      }
      this.viewer = OpenSeadragon({
        element: view, tileSources: info, drawer: "canvas", showNavigationControl: false, cooperativeGestures: true,
        maxZoomPixelRatio: 4, minZoomImageRatio: 0.7, visibilityRatio: 0.4, animationTime: calm ? 0 : 0.5,
        springStiffness: 8, clickTimeThreshold: 5000, // what does not move is a click, however slow the hand or the machine
        gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
        gestureSettingsPen: { clickToZoom: false }, silenceMultiImageWarnings: true,
        tileRetryMax: 2, tileRetryDelay: 1500, // a busy node says 503
      });
      const { viewer, stage } = this;
      // Boxes count pixels of the image; the service may offer a smaller one.
      const picture = stage.querySelector("img");
      this.size = { x: Number(picture.getAttribute("width")), y: Number(picture.getAttribute("height")) };
      this.offered = info.width / this.size.x;
      viewer.addHandler("tile-loaded", () => { stage.dataset.tiles = Number(stage.dataset.tiles) + 1; });
      viewer.addHandler("tile-load-failed", () => {
        stage.dataset.failed = Number(stage.dataset.failed) + 1;
        if (stage.dataset.tiles === "0") this.giveUp();
      });
      viewer.addHandler("open-failed", () => this.giveUp());
      viewer.addHandler("open", () => this.opened());
    }

    // The preview with its boxes is still there, under everything.
    giveUp() {
      if (this.stage.dataset.state === "failed") return;
      this.stage.dataset.state = "failed";
      setTimeout(() => this.viewer.destroy()); // not within one of its own events
      for (const own of this.stage.querySelectorAll(".zoom, .marks, .tools, .reading, .scale-bar")) own.remove();
      for (const line of document.querySelectorAll(`.lines li[data-region^="${this.stage.dataset.number}-"]`)) {
        line.querySelector(".to-box")?.remove();
      }
    }

    opened() {
      const { viewer, stage } = this;
      const picture = stage.querySelector("img");
      viewer.canvas.setAttribute("role", "application");
      viewer.canvas.setAttribute("aria-label", `${picture.alt}. Zoomable. ${HELP}`);
      this.addMarks();
      this.addTools();
      this.reading = make("p", { class: "reading", "aria-live": "polite", hidden: "" });
      stage.append(this.reading);
      if (this.pxPerMm) {
        this.bar = make("div", { class: "scale-bar", role: "img" }, make("span"));
        stage.append(this.bar);
      }
      for (const name of ["update-viewport", "rotate", "flip", "animation"]) {
        viewer.addHandler(name, () => {
          this.isWhole = viewer.viewport.getZoom() <= viewer.viewport.getHomeZoom() * 1.01;
          this.follow();
        });
      }
      // What was seen whole stays so in another window. The first event comes before OpenSeadragon zooms, the second after.
      viewer.addHandler("resize", () => { this.mustFit = this.isWhole; });
      viewer.addHandler("viewport-change", () => {
        if (this.mustFit) viewer.viewport.goHome(true);
        this.mustFit = false;
      });
      viewer.addHandler("canvas-cooperative-gesture", (event) => {
        event.preventDefaultAction = true; // a line of text instead of a darkened picture
        this.hint(event.message);
      });
      viewer.addHandler("canvas-key", (event) => this.key(event));
      viewer.addHandler("canvas-click", (event) => event.quick && this.click(event.position));
      stage.addEventListener("pointermove", (event) => this.hover(event));
      stage.addEventListener("pointerleave", () => this.point(null));
      document.addEventListener("fullscreenchange", () => this.fullChanged());
      const tiled = viewer.world.getItemAt(0);
      const show = () => { stage.dataset.state ??= "open"; };
      if (tiled.getFullyLoaded()) show();
      else tiled.addOnceHandler("fully-loaded-change", show);
      this.follow();
    }

    // ------------------------------------------------------------------ where things are
    // Image pixels to pixels of the view; OpenSeadragon turns, mirroring is ours.
    toView(x, y) {
      const { viewport } = this.viewer;
      const at = viewport.imageToViewerElementCoordinates(new OpenSeadragon.Point(x * this.offered, y * this.offered));
      return { x: viewport.getFlip() ? this.width() - at.x : at.x, y: at.y };
    }

    toImage(x, y) {
      const { viewport } = this.viewer;
      const at = new OpenSeadragon.Point(viewport.getFlip() ? this.width() - x : x, y);
      return viewport.viewerElementToImageCoordinates(at).divide(this.offered);
    }

    width() { return this.viewer.viewport.getContainerSize().x; }

    pixelsPerImagePixel() {
      const { viewport } = this.viewer;
      return viewport.viewportToImageZoom(viewport.getZoom(true)) * this.offered;
    }

    follow() {
      const far = Math.max(this.size.x, this.size.y);
      const o = this.toView(0, 0), right = this.toView(far, 0), down = this.toView(0, far);
      const matrix = [right.x - o.x, right.y - o.y, down.x - o.x, down.y - o.y].map((value) => value / far);
      this.shapes.setAttribute("transform", `matrix(${[...matrix, o.x, o.y].map((v) => v.toFixed(6)).join(" ")})`);
      this.drawRuler();
      if (this.bar) {
        const pxPerMm = this.pxPerMm * this.pixelsPerImagePixel();
        const mm = roundLength(Math.min(200, this.width() * 0.3) / pxPerMm);
        this.bar.firstChild.textContent = barText(mm);
        this.bar.style.width = `${(mm * pxPerMm).toFixed(2)}px`;
        this.bar.dataset.mm = mm;
        this.bar.setAttribute("aria-label", `Scale: the bar is ${barText(mm)} long`);
      }
    }

    // ------------------------------------------------------------------ boxes
    addMarks() {
      this.shapes = draw("g", { class: "shapes", role: "group", "aria-label": "What was read: arrow keys go from one to the next, Enter zooms" });
      for (const [number, old] of [...this.stage.querySelectorAll("svg.over g")].entries()) {
        const copy = old.cloneNode(true);
        copy.setAttribute("tabindex", number ? "-1" : "0");
        copy.setAttribute("role", "button");
        copy.setAttribute("aria-label", copy.querySelector("title").textContent || "region without text");
        this.shapes.append(copy);
      }
      this.ruler = draw("g", { class: "ruler" });
      this.marks = draw("svg", { class: "marks over" }, this.shapes, this.ruler);
      this.stage.append(this.marks);
      // On the stage: Chromium makes every SVG element that listens for focus a stop of the Tab key.
      const on = (name, act) => this.stage.addEventListener(name, (event) => {
        const shape = event.target.closest(".marks g[data-region]");
        if (shape !== null) act(shape, event);
      });
      on("keydown", (shape, event) => this.shapeKey(shape, event));
      on("focusin", (shape) => this.focused(shape));
      on("focusout", () => this.say(""));
      for (const line of document.querySelectorAll(`.lines li[data-region^="${this.stage.dataset.number}-"]`)) {
        const shape = this.shapes.querySelector(`[data-region="${CSS.escape(line.dataset.region)}"]`);
        if (shape === null) continue;
        const button = make("button", { type: "button", class: "to-box", title: "Show on the image" }, icon("find"));
        button.setAttribute("aria-label", `Show on the image: ${shape.getAttribute("aria-label")}`);
        button.addEventListener("click", () => {
          if (this.marks.classList.contains("off")) this.toggleBoxes();
          shape.focus({ preventScroll: true });
          this.zoomTo(shape);
          this.stage.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
        });
        line.append(button);
      }
    }

    focused(shape) {
      for (const other of this.shapes.children) other.setAttribute("tabindex", other === shape ? "0" : "-1");
      this.say(shape.getAttribute("aria-label"));
      const box = shape.getBoundingClientRect(), frame = this.stage.getBoundingClientRect();
      if (box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom) {
        this.panTo(shape);
      }
    }

    shapeKey(shape, event) {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      if (event.key in steps) {
        const all = [...this.shapes.children];
        all[(all.indexOf(shape) + steps[event.key] + all.length) % all.length].focus({ preventScroll: true });
      } else if (event.key === "Enter" || event.key === " ") this.zoomTo(shape);
      else if (event.key === "Escape") this.viewer.canvas.focus({ preventScroll: true });
      else return;
      event.preventDefault();
    }

    middle(shape) {
      const box = shape.querySelector("rect, polygon").getBBox();
      const x = (box.x + box.width / 2) * this.offered, y = (box.y + box.height / 2) * this.offered;
      return { box, at: this.viewer.viewport.imageToViewportCoordinates(x, y) };
    }

    panTo(shape) { this.viewer.viewport.panTo(this.middle(shape).at, calm); }

    zoomTo(shape) {
      const { viewport } = this.viewer, { box, at } = this.middle(shape);
      const turned = Math.abs(Math.sin((viewport.getRotation() * Math.PI) / 180)) > 0.5;
      const [wide, high] = turned ? [box.height, box.width] : [box.width, box.height];
      const view = viewport.getContainerSize();
      const scale = Math.min((0.6 * view.x) / wide, (0.6 * view.y) / high, 2);
      viewport.zoomTo(viewport.imageToViewportZoom(scale / this.offered), null, calm);
      viewport.panTo(at, calm);
    }

    hover(event) {
      if (event.target.closest(".tools")) { this.point(null); return; }
      const frame = this.stage.getBoundingClientRect();
      const x = event.clientX - frame.left - this.stage.clientLeft, y = event.clientY - frame.top - this.stage.clientTop;
      if (this.isMeasuring) {
        this.loose = this.toImage(x, y);
        this.drawRuler();
        return;
      }
      const at = this.toImage(x, y);
      let found = null, area = Infinity;
      if (!this.marks.classList.contains("off")) {
        for (const shape of this.shapes.children) {
          const box = shape.querySelector("rect, polygon").getBBox();
          const isInside = at.x >= box.x && at.y >= box.y && at.x <= box.x + box.width && at.y <= box.y + box.height;
          if (isInside && box.width * box.height < area) [found, area] = [shape, box.width * box.height];
        }
      }
      this.point(found);
    }

    point(shape) {
      if (shape === this.pointed) return;
      this.pointed?.dispatchEvent(new MouseEvent("mouseout", { bubbles: true }));
      shape?.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
      this.pointed = shape;
      this.say(shape === null ? "" : shape.getAttribute("aria-label"));
    }

    say(text) {
      if (this.isMeasuring && !text) return;
      this.reading.textContent = text;
      this.reading.hidden = !text;
    }

    hint(text) {
      this.say(text);
      clearTimeout(this.hinting);
      this.hinting = setTimeout(() => { if (this.reading.textContent === text) this.say(""); }, 2000);
    }

    // ------------------------------------------------------------------ tools
    addTools() {
      const { viewport } = this.viewer;
      const zoom = (factor) => { viewport.zoomBy(factor, null, calm); viewport.applyConstraints(); };
      const turn = (degrees) => {
        viewport.setRotation(viewport.getRotation() + (viewport.getFlip() ? -degrees : degrees), calm);
        viewport.goHome(calm);
      };
      const tools = [
        ["in", "Zoom in", () => zoom(1.5)], ["out", "Zoom out", () => zoom(1 / 1.5)],
        ["home", "Whole image", () => viewport.goHome(calm)],
        ["left", "Turn left", () => turn(-90)], ["right", "Turn right", () => turn(90)],
        ["flip", "Mirror", () => { viewport.toggleFlip(); this.press("flip", viewport.getFlip()); }, false],
      ];
      if (this.shapes.children.length) tools.push(["boxes", "Boxes of what was read", () => this.toggleBoxes(), true]);
      if (this.pxPerMm) tools.push(["ruler", "Measure", () => this.measure(!this.isMeasuring), false]);
      if (document.fullscreenEnabled) tools.push(["full", "Full screen", () => this.toggleFull(), false]);
      this.buttons = {};
      this.tools = make("div", { class: "tools", role: "toolbar", "aria-label": "Image" });
      for (const [name, label, act, pressed] of tools) {
        const button = make("button", { type: "button", title: label, "aria-label": label, "data-tool": name }, icon(name));
        if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
        button.addEventListener("click", act);
        this.buttons[name] = button;
        this.tools.append(button);
      }
      this.viewer.addHandler("flip", () => this.press("flip", viewport.getFlip()));
      this.stage.append(this.tools);
    }

    press(name, on) { this.buttons[name]?.setAttribute("aria-pressed", String(on)); }

    toggleBoxes() { this.press("boxes", !this.marks.classList.toggle("off")); }

    toggleFull() {
      if (document.fullscreenElement === this.stage) document.exitFullscreen();
      else this.stage.requestFullscreen().catch(() => {});
    }

    fullChanged() {
      const isFull = document.fullscreenElement === this.stage;
      this.press("full", isFull);
      this.viewer.setCooperativeGestures(!isFull);
    }

    key(event) {
      const { key } = event.originalEvent;
      const { viewport } = this.viewer;
      if (this.isMeasuring && key === "Enter") {
        const view = viewport.getContainerSize();
        this.addPoint(this.toImage(view.x / 2, view.y / 2));
      } else if (this.isMeasuring && key === "Escape") this.measure(false);
      else if (key === "+" || key === "-") {
        viewport.zoomBy(key === "+" ? 1.4 : 1 / 1.4, null, calm);
        viewport.applyConstraints();
      } else return;
      event.originalEvent.preventDefault();
      event.preventDefaultAction = true;
    }

    // OpenSeadragon has mirrored the position of a click already.
    click(position) {
      if (this.isMeasuring) this.addPoint(this.viewer.viewport.viewerElementToImageCoordinates(position).divide(this.offered));
    }

    // ------------------------------------------------------------------ measuring
    measure(on) {
      this.isMeasuring = on;
      this.points = [];
      this.loose = null;
      this.press("ruler", on);
      this.stage.classList.toggle("is-measuring", on);
      this.say(on ? MEASURE_HELP : "");
      this.drawRuler();
      if (on) this.viewer.canvas.focus({ preventScroll: true });
    }

    addPoint(at) {
      if (this.points.length === 2) this.points = [];
      this.points.push(at);
      this.drawRuler();
      if (this.points.length === 2) this.say(`Length: ${this.lengthOf(...this.points)}`);
    }

    lengthOf(one, two) { return lengthText(Math.hypot(one.x - two.x, one.y - two.y) / this.pxPerMm); }

    drawRuler() {
      const ends = this.points.length === 1 && this.loose ? [...this.points, this.loose] : this.points;
      const shown = ends.map((at) => this.toView(at.x, at.y));
      this.ruler.replaceChildren(...shown.map((at) => draw("circle", { cx: at.x, cy: at.y, r: 4 })));
      if (this.isMeasuring) {
        const view = this.viewer.viewport.getContainerSize(), x = view.x / 2, y = view.y / 2;
        this.ruler.append(draw("path", { class: "cross", d: `M${x - 8} ${y}h16M${x} ${y - 8}v16` }));
      }
      if (shown.length !== 2) return;
      const [a, b] = shown;
      const text = draw("text", { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 - 10 }, this.lengthOf(...ends));
      this.ruler.append(draw("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y }), text);
    }
  }

  const stages = document.querySelectorAll(".stage[data-viewer]");
  const begin = (stage) => new Zoomable(stage).start();
  const near = new IntersectionObserver((seen) => {
    for (const entry of seen) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      begin(entry.target);
    }
  }, { rootMargin: "300px" });
  for (const stage of stages) near.observe(stage);
}
