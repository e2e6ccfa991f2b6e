// The map: every clip a point. Points are written into one picture by hand, which costs a few
// milliseconds for 50,000 of them; drawing calls would take a whole frame.

import { clock, info } from "./player.js";
import { thumb } from "./grid.js";

const HUES = [238, 12, 152, 42, 292, 190, 340, 90, 262, 24, 172, 316];
const CELLS = 96;  // cells per side of the grid that finds the point under the pointer
const REACH = 14;  // pixels from the pointer to a point that it finds

export class ClipMap {
  constructor(section, search) {
    this.section = section;
    this.search = search;
    this.canvas = section.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    this.tip = section.querySelector("#tip");
    this.note = section.querySelector("#map-note");
    this.legend = section.querySelector("#legend");
    this.legend.hidden = true;
    this.count = 0;
    this.scale = 1;  // pixels per unit
    this.left = 0;   // position of the origin in pixels
    this.top = 0;
    this.hot = -1;
    this.marked = [];
    this.off = new Set();
    this.waiting = false;
    this.state = "new";
    this.pointers = new Map();
    this.frames = [];  // milliseconds that each drawing took, for measurements
    this.listen();
  }

  async open(groupOf) {
    this.groupOf = groupOf;
    if (this.state === "new") {
      this.state = "loading";
      this.fetch();
    } else if (this.count) {
      this.color();
    }
    this.resize();
  }

  async fetch() {
    for (;;) {
      const answer = await fetch("api/map");
      if (answer.status === 202) { await new Promise((done) => setTimeout(done, 700)); continue; }
      if (!answer.ok) {
        this.note.textContent = (await answer.json()).error ?? "There is no map.";
        this.state = "failed";
        return;
      }
      this.read(await answer.arrayBuffer());
      return;
    }
  }

  read(buffer) {
    const count = new Uint32Array(buffer, 0, 1)[0];
    const column = (kind, number) => new kind(buffer, 4 + 4 * count * number, count);
    // The axes mean nothing: the plane may be as wide as the window is.
    const shape = Math.sqrt(Math.min(1.8, Math.max(0.6, this.canvas.width / this.canvas.height)));
    this.x = column(Float32Array, 0).map((value) => value * shape);
    this.y = column(Float32Array, 1).map((value) => value / shape);
    this.video = column(Uint32Array, 2);
    this.start = column(Float32Array, 3);
    this.end = column(Float32Array, 4);
    this.count = count;
    this.cells();
    this.color();
    this.note.hidden = true;
    this.state = "ready";
    this.showAll();
  }

  cells() {
    // `order` groups the points by cell; `first` holds the start of each cell.
    const cell = new Uint16Array(this.count);
    const first = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < this.count; i++) {
      cell[i] = this.cellOf(this.x[i]) + CELLS * this.cellOf(this.y[i]);
      first[cell[i] + 1]++;
    }
    for (let i = 0; i < CELLS * CELLS; i++) first[i + 1] += first[i];
    const next = first.slice();
    this.order = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) this.order[next[cell[i]]++] = i;
    this.first = first;
  }

  cellOf(value) {
    return Math.min(CELLS - 1, Math.max(0, Math.floor((value + 1.4) / 2.8 * CELLS)));
  }

  // groupOf answers { names: [...], of: (video) => index, shown: (video) => passes the filters }
  async color() {
    const turn = this.turn = (this.turn ?? 0) + 1;
    const { names, of, shown } = await this.groupOf();
    if (turn !== this.turn) return;
    this.groups = new Uint16Array(this.count);
    this.out = new Uint8Array(this.count);
    for (let i = 0; i < this.count; i++) {
      this.groups[i] = of(this.video[i]);
      this.out[i] = shown(this.video[i]) ? 0 : 1;
    }
    this.someOut = this.out.includes(1);
    this.names = names;
    this.palette();
    this.draw();
  }

  dark() {
    return getComputedStyle(document.documentElement).colorScheme === "dark";
  }

  palette() {
    const dark = this.dark();
    const pixel = (r, g, b) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgb = (css) => {
      probe.fillStyle = css;
      probe.fillRect(0, 0, 1, 1);
      return probe.getImageData(0, 0, 1, 1).data;
    };
    this.css = this.names.map((_, i) => `hsl(${HUES[i % 12]} ${dark ? 72 : 62}% ${(dark ? 66 : 50) - 9 * (Math.floor(i / 12) % 3)}%)`);
    this.colors = Uint32Array.from(this.css, (css) => pixel(...rgb(css)));
    this.faint = dark ? pixel(44, 44, 50) : pixel(224, 224, 229);
    const [r, g, b] = rgb(getComputedStyle(document.documentElement).getPropertyValue("--back"));
    this.back = pixel(r, g, b);
    this.legend.replaceChildren(...this.names.slice(0, 24).map((name, i) => {
      const row = document.createElement("div");
      const dot = document.createElement("i");
      dot.style.background = this.css[i];
      row.append(dot, name || "none");
      row.classList.toggle("off", this.off.has(i));
      row.onclick = () => {
        if (!this.off.delete(i)) this.off.add(i);
        row.classList.toggle("off", this.off.has(i));
        this.draw();
      };
      return row;
    }));
    this.legend.hidden = this.names.length < 2;
  }

  resize() {
    const box = this.section.getBoundingClientRect();
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(box.width * ratio));
    const height = Math.max(1, Math.round(box.height * ratio));
    if (width === this.canvas.width && height === this.canvas.height && this.image) return;
    const middle = this.image && [(this.canvas.width / 2 - this.left) / this.scale, (this.canvas.height / 2 - this.top) / this.scale];
    this.ratio = ratio;
    this.canvas.width = width;
    this.canvas.height = height;
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    if (!this.count) {
      this.context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--back");
      this.context.fillRect(0, 0, width, height);
    }
    if (middle) {
      this.left = width / 2 - middle[0] * this.scale;
      this.top = height / 2 - middle[1] * this.scale;
    }
    this.draw();
  }

  showAll() {
    const { width, height } = this.canvas;
    const reach = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0.01);
    this.scale = 0.47 * Math.min(width / reach(this.x), height / reach(this.y));
    this.left = width / 2;
    this.top = height / 2;
    this.draw();
  }

  mark(results) {
    this.marked = results;
    if (this.count) this.draw();
  }

  draw() {
    if (this.waiting || !this.image) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.section.hidden || !this.count || !this.colors) return;
      const began = performance.now();
      this.paint();
      this.frames.push(performance.now() - began);
      if (this.frames.length > 1000) this.frames.shift();
    });
  }

  paint() {
    const { pixels, x, y, groups, colors, scale, left, top, count, faint } = this;
    const { width, height } = this.canvas;
    const few = count < 3000 ? 3.2 : count < 15000 ? 1.8 : 0.6;
    const size = Math.max(2, Math.min(11, Math.round(this.ratio * (1 + few + Math.log2(1 + scale / (0.5 * height))))));
    const corner = size >= 5 ? 1 + (size >> 3) : size >= 4 ? 1 : 0;  // cut off: points are round
    const half = size >> 1;
    const right = width - size;
    const bottom = height - size;
    const faded = this.fading();
    pixels.fill(this.back);
    // Faint points first, so that they hide none of the others.
    for (let n = faded ? 0 : count; n < 2 * count; n++) {
      const i = n < count ? n : n - count;
      if (faded && faded[i] !== (n < count ? 1 : 0)) continue;
      const column = (x[i] * scale + left - half) | 0;
      const row = (y[i] * scale + top - half) | 0;
      if (column < 0 || row < 0 || column >= right || row >= bottom) continue;
      const color = n < count ? faint : colors[groups[i]];
      let at = row * width + column;
      for (let down = 0; down < size; down++, at += width) {
        const cut = down === 0 || down === size - 1 ? corner : 0;
        for (let across = cut; across < size - cut; across++) pixels[at + across] = color;
      }
    }
    this.context.putImageData(this.image, 0, 0);
    this.rings();
  }

  // Which points are faint: switched off in the legend, or filtered out. Null for none.
  fading() {
    if (!this.off.size) return this.someOut ? this.out : null;
    return this.out.map((_, i) => (this.standsBack(i) ? 1 : 0));
  }

  standsBack(i) {
    return this.out[i] || this.off.has(this.groups[i]);
  }

  rings() {
    const { context } = this;
    const text = this.dark() ? "#fff" : "#111";
    const ring = (i, radius, width) => {
      context.beginPath();
      context.arc(this.x[i] * this.scale + this.left, this.y[i] * this.scale + this.top, radius * this.ratio, 0, 7);
      context.strokeStyle = text;
      context.lineWidth = width * this.ratio;
      context.stroke();
    };
    for (const i of this.marked) ring(i, 6, 1.5);
    if (this.hot >= 0 && !this.standsBack(this.hot)) ring(this.hot, 7, 2.5);
  }

  // The point nearest to a position on the canvas, -1 if none is within reach.
  nearest(column, row) {
    if (!this.count || !this.groups) return -1;
    const reach = REACH * this.ratio;
    const low = (at, from) => this.cellOf((at - reach - from) / this.scale);
    const high = (at, from) => this.cellOf((at + reach - from) / this.scale);
    let best = -1;
    let least = reach * reach;
    for (let b = low(row, this.top); b <= high(row, this.top); b++) {
      for (let a = low(column, this.left); a <= high(column, this.left); a++) {
        const cell = a + CELLS * b;
        for (let k = this.first[cell]; k < this.first[cell + 1]; k++) {
          const i = this.order[k];
          const dx = this.x[i] * this.scale + this.left - column;
          const dy = this.y[i] * this.scale + this.top - row;
          const distance = dx * dx + dy * dy;
          if (distance < least && !this.standsBack(i)) { least = distance; best = i; }
        }
      }
    }
    return best;
  }

  zoom(factor, column = this.canvas.width / 2, row = this.canvas.height / 2) {
    const base = 0.46 * Math.min(this.canvas.width, this.canvas.height);
    const scale = Math.min(400 * base, Math.max(0.5 * base, this.scale * factor));
    this.left = column - (column - this.left) * (scale / this.scale);
    this.top = row - (row - this.top) * (scale / this.scale);
    this.scale = scale;
    this.draw();
  }

  move(across, down) {
    this.left += across;
    this.top += down;
    this.draw();
  }

  point(index, column, row) {
    if (index !== this.hot) {
      this.hot = index;
      this.canvas.classList.toggle("points", index >= 0);
      this.draw();
      if (index >= 0) this.tell(index);
    }
    this.tip.hidden = index < 0;
    if (index < 0) return;
    const box = this.section.getBoundingClientRect();
    const x = column / this.ratio;
    const y = row / this.ratio;
    this.tip.style.left = `${x + 226 > box.width ? Math.max(4, x - 222) : x + 14}px`;
    this.tip.style.top = `${y + 184 > box.height ? Math.max(4, y - 180) : y + 14}px`;
  }

  async tell(index) {
    const id = this.video[index];
    const image = this.tip.querySelector("img");
    image.onload = () => { image.style.visibility = "visible"; };
    image.style.visibility = "hidden";
    image.src = thumb(id, (this.start[index] + this.end[index]) / 2);
    this.tip.querySelector("span").textContent = `${clock(this.start[index])} – ${clock(this.end[index])}`;
    this.tip.querySelector("b").textContent = "";
    const found = await info(id).catch(() => null);
    if (this.hot === index && found) this.tip.querySelector("b").textContent = found.name;
  }

  choose(index) {
    if (index < 0) return;
    this.tip.hidden = true;
    this.search({ id: this.video[index], start: this.start[index], end: this.end[index] });
  }

  listen() {
    const { canvas, pointers } = this;
    const place = (event) => [event.offsetX * this.ratio, event.offsetY * this.ratio];
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, place(event));
      moved = 0;
      canvas.classList.add("drags");
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = place(event);
      const before = pointers.get(event.pointerId);
      if (!before) {
        this.point(this.nearest(...now), ...now);
        return;
      }
      if (pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const length = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
        this.zoom(length(now) / length(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
        moved = 99;
      } else {
        this.move(now[0] - before[0], now[1] - before[1]);
        moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
        if (moved > 4) this.tip.hidden = true;
      }
      pointers.set(event.pointerId, now);
    });
    const up = (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (!pointers.size) canvas.classList.remove("drags");
      if (event.type === "pointerup" && moved <= 6 * this.ratio) this.choose(this.nearest(...place(event)));
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => { if (!pointers.size) this.point(-1); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...place(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 60 * this.ratio;
      const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      const { width, height } = canvas;
      if (moves[event.key]) this.move(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") this.zoom(1.3);
      else if (event.key === "-") this.zoom(1 / 1.3);
      else if (event.key === "0") this.showAll();
      else if (event.key === "Enter") this.choose(this.hot >= 0 ? this.hot : this.nearest(width / 2, height / 2));
      else return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key !== "Enter") this.point(this.nearest(width / 2, height / 2), width / 2, height / 2);
    });
    this.section.querySelector("#zoom-in").onclick = () => this.zoom(1.5);
    this.section.querySelector("#zoom-out").onclick = () => this.zoom(1 / 1.5);
    this.section.querySelector("#zoom-all").onclick = () => this.showAll();
    new ResizeObserver(() => { if (!this.section.hidden) this.resize(); }).observe(this.section);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
  }

  repaint() {
    if (this.names) { this.palette(); this.draw(); }
  }
}
