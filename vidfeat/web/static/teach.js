// Teaching: classes as chips, clips in the order the server suggests, a key or click labels.

import { tile } from "./grid.js";
import { clock } from "./player.js";
import { drawQuality } from "./quality.js";
import { VirtualGrid } from "./rows.js";
import { plural } from "./words.js";

const $ = (id) => document.getElementById(id);
const TAB = [...crypto.getRandomValues(new Uint8Array(9))].map((byte) => byte.toString(36)).join("").slice(0, 12);
const COLOURS = 9;

export class Lesson {
  // page: ask(path, options), filters(), say(text, isError), go(parts), search(clip), target().
  constructor(page) {
    this.page = page;
    this.on = false;
    this.revision = 0;
    this.stamp = "";
    this.classes = [];      // from the server
    this.names = [];        // all chips; each keeps its place, and with it its key
    this.added = new Set();  // chips that have no label yet
    this.armed = null;      // the class that a click gives
    this.picked = new Map();  // index -> item, the selection
    this.queue = Promise.resolve();
    this.grid = new VirtualGrid($("lesson-grid"), (first, count) => this.fetch(first, count), (item, index) => this.tile(item, index));
    this.listen();
  }

  colour(name) {
    const place = this.names.indexOf(name);
    return place < 0 ? "none" : String(place % COLOURS);
  }

  // ------------------------------------------------------------- opening and closing

  async open() {
    this.on = true;
    $("lesson-bar").hidden = false;
    $("show-teach").setAttribute("aria-pressed", "true");
    await this.look();
    await this.reload();
    if (!this.names.length) $("new-class").focus();
    else if (document.activeElement === document.body) this.grid.go(0);
  }

  close() {
    this.on = false;
    this.arm(null);
    this.picked.clear();
    $("lesson-bar").hidden = true;
    $("show-teach").setAttribute("aria-pressed", "false");
  }

  get here() { return this.on && !$("teach").hidden; }

  async look() {
    this.learn(await this.page.ask(`api/teach?tab=${TAB}`));
  }

  learn(state) {
    this.revision = state.revision;
    this.classes = state.classes;
    const known = state.classes.map((one) => one.name);
    this.names = this.names.filter((name) => known.includes(name) || this.added.has(name));
    this.names.push(...known.filter((name) => !this.names.includes(name)));
    $("lesson-undo").disabled = !state.can_undo;
    $("lesson-file").textContent = state.file;
    this.chips();
    this.orders();
  }

  async reload(keepPlace = false) {
    this.picked.clear();
    try {
      const found = await this.grid.reload({ keepPlace });
      if (!found) return;
      this.tell();
    } catch (error) {
      this.page.say(error.message, true);
    }
  }

  tell() {
    const clips = plural(this.grid.total, "clip");
    const { kind, name } = this.order();
    const what = {
      uncertain: this.hasHead ? `${clips} without a label, the most useful first` : `${clips} without a label. Label clips of two classes to sort them`,
      certain: `${clips} without a label, most likely ${name} first`,
      mistakes: `${plural(this.grid.total, "labelled clip")}, likely mistakes first`,
      labelled: `${plural(this.grid.total, "labelled clip")}, the newest first`,
      found: `${plural(this.grid.total, "segment")} of ${name} in ${plural(this.foundVideos ?? 0, "video")}`,
    }[kind];
    this.page.say(`${what}.${this.picked.size ? ` ${this.picked.size} selected.` : ""}`);
    $("lesson-empty").hidden = this.grid.total > 0;
    $("lesson-found").hidden = kind !== "found";
    if (kind === "found") $("lesson-csv").href = `api/teach/found?${this.wanted("csv")}`;
  }

  // ------------------------------------------------------------- what is shown

  order() {
    const [kind, ...rest] = $("lesson-order").value.split(":");
    return { kind: kind || "uncertain", name: rest.join(":") };
  }

  wanted(format) {
    const { kind, name } = this.order();
    const wanted = this.page.filters();
    if (name) wanted.set("class", name);
    if (kind === "found") {
      wanted.set("threshold", (Number($("lesson-threshold").value) / 100).toFixed(2));
      if (format) wanted.set("format", format);
    } else {
      wanted.set("order", kind);
      wanted.set("revision", this.revision);
    }
    return wanted;
  }

  async fetch(first, count) {
    const wanted = this.wanted();
    wanted.set("first", first);
    wanted.set("count", count);
    if (this.order().kind === "found") {
      const found = await this.page.ask(`api/teach/found?${wanted}`);
      this.foundVideos = found.videos;
      return { total: found.total, items: found.segments };
    }
    const found = await this.page.ask(`api/teach/clips?${wanted}`);
    this.hasHead = found.has_head;
    // A page of another state of the head would repeat clips: start again.
    if (first && found.stamp !== this.stamp) { this.reload(true); return { total: this.grid.total, items: [] }; }
    this.stamp = found.stamp;
    return { total: found.total, items: found.clips };
  }

  tile(item, index) {
    const card = tile({ ...item, score: item.score ?? 0 }, index + 1, { low: 0, high: 1 }, { search: (one) => this.page.search(one) });
    card.classList.add("lesson-tile");
    this.dress(card, item);
    if (this.picked.has(index)) card.classList.add("picked");
    return card;
  }

  dress(card, item) {
    card.querySelector(".text .tag")?.remove();
    card.querySelector(".taught")?.remove();
    const line = card.querySelector(".text > span");
    const name = item.taught ?? item.guess;
    if (line && item.taught === undefined) return;
    if (line) {
      const sure = item.score === null || item.score === undefined ? "" : ` ${Math.round(100 * item.score)} %`;
      line.firstChild.textContent = item.taught ? "labelled" : item.guess ? `${item.guess}${sure}` : "";
    }
    card.setAttribute("aria-label", `${item.path}, from ${clock(item.start)}, ${item.taught ? `labelled ${item.taught}` : name ? `perhaps ${name}` : "no label"}. Enter plays it.`);
    if (!item.taught) return;
    const mark = document.createElement("span");
    mark.className = "taught";
    mark.dataset.colour = this.colour(item.taught);
    mark.textContent = item.taught;
    card.querySelector(".pic").append(mark);
  }

  chips() {
    const row = $("classes");
    const chips = this.names.map((name, place) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "class-chip";
      chip.dataset.colour = this.colour(name);
      chip.setAttribute("aria-pressed", String(this.armed === name));
      chip.title = place < 9 ? `Label with key ${place + 1}, or click here and then clips` : "Click here and then clips to label them";
      const key = document.createElement("kbd");
      key.textContent = place < 9 ? String(place + 1) : "·";
      const count = document.createElement("small");
      count.textContent = this.classes.find((one) => one.name === name)?.labels ?? 0;
      const text = document.createElement("span");
      text.textContent = name;
      chip.append(key, text, count);
      chip.onclick = () => this.press(name);
      return chip;
    });
    row.replaceChildren(...chips);
  }

  orders() {
    const select = $("lesson-order");
    const before = select.value;
    const choice = (kind, label, name) => new Option(label, name === undefined ? kind : `${kind}:${name}`);
    const labelled = this.classes.map((one) => one.name);
    const options = [choice("uncertain", "Most uncertain")];
    options.push(...labelled.map((name) => choice("certain", `Most certain: ${name}`, name)));
    options.push(choice("mistakes", "Likely mistakes"), choice("labelled", "Labelled"));
    if (labelled.length > 1) options.push(...labelled.map((name) => choice("found", `Find all: ${name}`, name)));
    select.replaceChildren(...options);
    select.value = options.some((option) => option.value === before) ? before : "uncertain";
    $("lesson-find").disabled = $("lesson-save").disabled = labelled.length < 2;
  }

  // ------------------------------------------------------------- labelling

  // A chip was pressed: it labels the selection, or arms the clicks that follow.
  press(name) {
    if (this.here && this.picked.size) this.give(name, [...this.picked.values()]);
    else if (!this.here && this.page.target()) this.give(name, [this.page.target()]);
    else this.arm(this.armed === name ? null : name);
  }

  arm(name) {
    this.armed = name;
    document.body.classList.toggle("arms", name !== null);
    this.chips();
  }

  // What keys apply to: the selection, the clip under the pointer or in focus, or the segment.
  targets() {
    if (!this.here) { const one = this.page.target(); return one ? [one] : []; }
    if (this.picked.size) return [...this.picked.values()];
    const item = this.grid.items.get(this.grid.at);
    return item ? [item] : [];
  }

  span(item) {
    return item.clip === undefined ? { video: item.id, start: item.start, end: item.end } : { clip: item.clip };
  }

  // Label the targets of a key press, after all earlier changes.
  give(name, items) {
    if (!items.length) return this.queue;
    const cards = items.map((item) => [item, this.cardOf(item)]);
    for (const [item, card] of cards) {
      if (!("saved" in item)) item.saved = item.taught;
      item.taught = name;
      if (card) { this.dress(card, item); card.classList.add("pending"); }
    }
    this.queue = this.queue.then(async () => {
      try {
        const state = await this.send("label", { spans: items.map((item) => this.span(item)), label: name, revision: this.revision });
        this.learn(state);
        for (const [item, card] of cards) { item.saved = name; card?.classList.remove("pending"); }
        const others = state.replaced.length ? ` Replaced labels of another page: ${[...new Set(state.replaced.map((one) => one.label))].join(", ")}.` : "";
        this.toast(`${name ?? "No label"}: ${items.length === 1 ? `${items[0].name} ${clock(items[0].start)}` : `${items.length} clips`}.${others}`);
        await this.follow();
      } catch (error) {
        for (const [item, card] of cards) {
          item.taught = item.saved;
          if (card) { this.dress(card, item); card.classList.remove("pending"); }
        }
        this.toast(error.message, true);
      }
    });
    return this.queue;
  }

  // Show the new order, and later the precision.
  async follow() {
    if (this.here) {
      const had = $("lesson-grid").contains(document.activeElement);
      await this.reload(true);
      if (had) this.grid.go(this.grid.at);
    }
    this.judge();
  }

  cardOf(item) {
    if (item.card) return item.card;
    for (const [index, one] of this.grid.items) if (one === item) return this.grid.tiles.get(index);
    return null;
  }

  async send(what, value) {
    return this.page.ask(`api/teach/${what}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ...value, tab: TAB }),
    });
  }

  undo() {
    this.queue = this.queue.then(async () => {
      try {
        const state = await this.send("undo", {});
        this.learn(state);
        this.toast(state.undone.length ? "Undone." : "There is nothing to undo.");
        await this.follow();
      } catch (error) {
        this.toast(error.message, true);
      }
    });
    return this.queue;
  }

  toast(text, isError = false) {
    const box = $("lesson-toast");
    box.textContent = text;
    box.hidden = false;
    box.classList.toggle("error", isError);
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => { box.hidden = true; }, isError ? 8000 : 3000);
  }

  // ------------------------------------------------------------- precision

  judge() {
    clearTimeout(this.judging);
    const ask = async (wait) => {
      try {
        const found = await this.page.ask("api/teach/quality");
        drawQuality($("lesson-quality"), found.quality, (name) => this.colour(name));
        const done = found.judged === found.revision;
        $("lesson-quality").classList.toggle("pending", !done);
        if (!done && this.on) this.judging = setTimeout(() => ask(Math.min(2000, wait * 1.5)), wait);
      } catch { /* the next label asks again */ }
    };
    this.judging = setTimeout(() => ask(200), 60);
  }

  // ------------------------------------------------------------- keys and clicks

  // Handles a key; returns whether it was for teaching.
  key(event) {
    if (!this.on || event.metaKey || event.altKey) return false;
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) { this.undo(); return true; }
    if (event.ctrlKey) return false;
    if (/^[1-9]$/.test(key)) {
      const name = this.names[Number(key) - 1];
      if (name !== undefined) this.give(name, this.targets());
      return true;
    }
    if (["0", "delete", "backspace"].includes(key)) { this.give(null, this.targets()); return true; }
    if (key === "n") { $("new-class").focus(); return true; }
    if (key === "q") { $("lesson-details").open = !$("lesson-details").open; return true; }
    if (!this.here) return false;
    if (event.key.startsWith("Arrow") || ["Home", "End", "PageUp", "PageDown"].includes(event.key)) {
      const from = this.grid.at;
      if (this.grid.step(event.key) && event.shiftKey) this.pickRange(from, this.grid.at);
      return true;
    }
    if (key === "x") { this.pick(this.grid.at); return true; }
    return false;
  }

  // Esc ends the selection, then the armed class; true if there was something to end.
  escape() {
    if (!this.on) return false;
    if (this.picked.size) { this.unpick(); return true; }
    if (this.armed !== null) { this.arm(null); return true; }
    return false;
  }

  pick(index) {
    const item = this.grid.items.get(index);
    if (!item) return;
    if (this.picked.has(index)) this.picked.delete(index);
    else this.picked.set(index, item);
    this.grid.tiles.get(index)?.classList.toggle("picked", this.picked.has(index));
    this.tell();
  }

  pickRange(from, to) {
    for (let index = Math.min(from, to); index <= Math.max(from, to); index++) {
      if (!this.picked.has(index)) this.pick(index);
    }
  }

  unpick() {
    for (const index of this.picked.keys()) this.grid.tiles.get(index)?.classList.remove("picked");
    this.picked.clear();
    this.tell();
  }

  listen() {
    const box = $("lesson-grid");
    const indexOf = (event) => {
      const card = event.target.closest(".lesson-tile");
      return card ? Number(card.dataset.index) : -1;
    };
    box.addEventListener("pointerover", (event) => {
      const index = indexOf(event);
      if (index >= 0 && event.pointerType !== "touch") { this.grid.at = index; this.grid.mark(); }
    });
    box.addEventListener("focusin", (event) => {
      const index = indexOf(event);
      if (index >= 0) { this.grid.at = index; this.grid.mark(); }
    });
    box.addEventListener("click", (event) => {
      const index = indexOf(event);
      if (index < 0 || event.target.closest(".same")) return;
      const selects = event.ctrlKey || event.metaKey || $("lesson-select").getAttribute("aria-pressed") === "true";
      if (!selects && !event.shiftKey && this.armed === null) return;
      event.stopPropagation();
      event.preventDefault();
      const from = this.grid.at;
      this.grid.at = index;
      this.grid.mark();
      if (event.shiftKey) this.pickRange(this.last ?? from, index);
      else if (selects) this.pick(index);
      else this.give(this.armed, [this.grid.items.get(index)]);
      this.last = index;
    }, true);
    $("add-class").onsubmit = (event) => {
      event.preventDefault();
      const name = $("new-class").value.trim().split(/\s+/).join(" ");
      if (name && !this.names.some((one) => one.toLowerCase() === name.toLowerCase())) {
        this.added.add(name);
        this.names.push(name);
      }
      $("new-class").value = "";
      this.chips();
      this.grid.go(this.grid.at);
    };
    $("lesson-order").onchange = () => { this.reload(); $("lesson-order").blur(); };
    $("lesson-threshold").oninput = () => {
      $("lesson-threshold-value").textContent = `${$("lesson-threshold").value} %`;
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.reload(), 150);
    };
    $("lesson-undo").onclick = () => this.undo();
    $("lesson-select").onclick = () => {
      const on = $("lesson-select").getAttribute("aria-pressed") !== "true";
      $("lesson-select").setAttribute("aria-pressed", String(on));
      if (!on) this.unpick();
    };
    $("lesson-find").onclick = () => {
      const name = this.armed ?? this.order().name ?? "";
      const known = this.classes.map((one) => one.name);
      $("lesson-order").value = `found:${known.includes(name) ? name : known[0]}`;
      this.page.go({ teach: "" });
      this.reload();
    };
    $("lesson-save").onclick = () => {
      $("save-note").textContent = "";
      $("save-head").showModal();
      $("save-name").select();
    };
    $("save-form").onsubmit = (event) => {
      event.preventDefault();
      this.save(false);
    };
    $("save-cancel").onclick = () => $("save-head").close();
    addEventListener("visibilitychange", () => {
      if (this.here && document.visibilityState === "visible") this.look().catch(() => {});
    });
  }

  async save(replace) {
    const note = $("save-note");
    try {
      const found = await this.send("head", { name: $("save-name").value.trim(), replace });
      note.classList.remove("error");
      note.textContent = `Saved. Use it with: vidfeat classify VIDEO --head ${JSON.stringify(found.folder)}`;
    } catch (error) {
      if (error.exists && confirm(`${error.message}. Replace it?`)) { this.save(true); return; }
      note.classList.add("error");
      note.textContent = error.message;
    }
  }
}

