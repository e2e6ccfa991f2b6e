// Queries of several examples: phrases and segments, wanted or not, as chips above the results.
// The address has one parameter for each: #phrase=a+dog&not_phrase=snow&like=3.20,5.00,a/b.mp4

import { thumb } from "./grid.js";
import { clock } from "./player.js";

const KINDS = ["phrase", "like", "like_upload"];
export const NAMES = KINDS.flatMap((kind) => [kind, `not_${kind}`]);

export const isTerms = (place) => NAMES.some((name) => place.has(name));

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

const key = (term) => `${term.kind} ${term.value} ${term.start ?? ""} ${term.end ?? ""}`;

function parse(place) {
  const terms = [];
  for (const [name, value] of place) {
    const kind = name.replace(/^not_/, "");
    if (!KINDS.includes(kind)) continue;
    const negative = name !== kind;
    if (kind === "phrase") { terms.push({ kind, value, negative }); continue; }
    const [start, end, ...rest] = value.split(",");
    const path = rest.join(",");
    terms.push({ kind, value: path, name: path.split("/").pop(), negative, start: start || null, end: end || null });
  }
  return terms;
}

function parameters(terms) {
  const wanted = new URLSearchParams();
  for (const { kind, value, negative, start, end } of terms) {
    const name = negative ? `not_${kind}` : kind;
    wanted.append(name, kind === "phrase" ? value : `${start ?? ""},${end ?? ""},${value}`);
  }
  return wanted;
}

const fixed = (second) => (second === undefined || second === null ? null : Number(second).toFixed(2));

const termOf = (video, negative) => ({
  kind: "like", value: video.path, name: video.name, id: video.id, negative, start: fixed(video.start), end: fixed(video.end),
});

export class Terms {
  // page: { go, current }: where to go with parameters, and the query that is open (or null).
  constructor(element, page, hasText) {
    this.element = element;
    this.page = page;
    this.hasText = hasText;
    this.terms = [];
    this.chips = make("div", "terms-chips");
    element.replaceChildren(...(hasText ? [this.form()] : []), this.chips);
    this.show();
  }

  form() {
    const form = make("form");
    form.setAttribute("role", "search");
    this.input = make("input");
    Object.assign(this.input, { type: "search", id: "phrase", autocomplete: "off", maxLength: 400 });
    this.input.placeholder = "Describe what to find …";
    this.input.setAttribute("aria-label", "Describe what to find; start with a minus for what not to find");
    this.input.title = "Start with a minus for what not to find: -snow";
    const button = make("button", "main", "Find");
    button.type = "submit";
    form.append(this.input, button);
    form.onsubmit = (event) => { event.preventDefault(); this.submit(); };
    return form;
  }

  submit() {
    const text = this.input.value.trim();
    const negative = text.startsWith("-");
    const value = negative ? text.slice(1).trim() : text;
    if (value) this.add({ kind: "phrase", value, negative });
    this.input.value = "";
    this.search();
  }

  // The query that is open counts as the first example of a selection.
  add(term) {
    const open = this.page.current();
    if (!this.terms.length && open && term.kind !== "phrase") this.terms.push({ ...open, negative: false });
    this.terms = this.terms.filter((one) => key(one) !== key(term));
    this.terms.push(term);
    this.show();
  }

  remove(term) {
    this.terms = this.terms.filter((one) => key(one) !== key(term));
    this.show();
  }

  // "+" or "−" of a tile: adds the example, reverses it, or removes it again.
  toggle(video, negative) {
    const term = termOf(video, negative);
    const known = this.terms.find((one) => key(one) === key(term));
    if (known && known.negative === negative) this.remove(known);
    else this.add(term);
  }

  search() {
    if (this.terms.some((term) => !term.negative)) this.page.go(parameters(this.terms));
  }

  // Shows what the address says; the ids for pictures come with the response. Changing a filter
  // keeps the address, and with it what has been picked since.
  open(place) {
    const said = parse(place);
    if (this.place !== place.toString()) {
      this.place = place.toString();
      this.terms = said;
    }
    this.show();
    return parameters(said);
  }

  answered(shown) {
    shown.forEach((one, i) => { if (this.terms[i]?.value === one.value) Object.assign(this.terms[i], { name: one.name, id: one.id, at: one.start, until: one.end }); });
    this.show();
  }

  clear() { this.terms = []; this.show(); }

  show() {
    this.chips.replaceChildren(...this.terms.map((term) => this.chip(term)));
    if (this.terms.length) {
      const place = new URLSearchParams(location.hash.slice(1));
      const changed = parameters(this.terms).toString() !== parameters(parse(place)).toString();
      const positive = this.terms.some((term) => !term.negative);
      if (changed) {
        const more = make("button", "main", "More like these");
        more.type = "button";
        more.id = "more-like-these";
        more.disabled = !positive;
        more.title = positive ? "Search with all of them" : "Choose something to look for";
        more.onclick = () => this.search();
        this.chips.append(more);
      }
      const clear = make("button", "", "Clear");
      clear.type = "button";
      clear.id = "clear-terms";
      clear.onclick = () => { this.clear(); this.page.go({}); };
      this.chips.append(clear);
    }
    this.element.hidden = !this.hasText && !this.terms.length;
    for (const card of document.querySelectorAll("#grid .tile")) card.markPicked?.();
  }

  chip(term) {
    const chip = make("div", `term${term.negative ? " negative" : ""}`);
    if (term.id !== undefined && term.id !== null && term.kind === "like") {
      const image = make("img");
      image.alt = "";
      const at = term.at ?? Number(term.start ?? 0);
      image.src = thumb(term.id, (at + (term.until ?? Number(term.end ?? at))) / 2);
      image.onerror = () => image.remove();
      chip.append(image);
    }
    const label = term.kind === "phrase" ? term.value : term.name ?? term.value;
    const name = make("b", "", label);
    name.title = term.value;
    chip.append(name);
    if (term.start !== null && term.start !== undefined) chip.append(make("small", "", clock(Number(term.start))));
    const turn = make("button", "", term.negative ? "not" : "like");
    turn.type = "button";
    turn.setAttribute("aria-label", `${label}: ${term.negative ? "not wanted; look for it" : "wanted; do not look for it"}`);
    turn.onclick = () => { term.negative = !term.negative; this.show(); };
    const remove = make("button", "", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${label}`);
    remove.onclick = () => this.remove(term);
    chip.append(turn, remove);
    return chip;
  }

  // Adds "+" and "−" to a tile.
  decorate(card, picture, video) {
    const picks = make("div", "picks");
    const buttons = [["+", false, "More like this one"], ["−", true, "Not like this one"]].map(([sign, negative, title]) => {
      const button = make("button", negative ? "against" : "for", sign);
      button.type = "button";
      button.title = `${title} (${negative ? "-" : "+"})`;
      button.setAttribute("aria-label", title);
      button.onclick = (event) => { event.stopPropagation(); this.toggle(video, negative); };
      return button;
    });
    picks.append(...buttons);
    picture.append(picks);
    card.addEventListener("keydown", (event) => {
      if (event.target !== card || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "+" || event.key === "-") { event.preventDefault(); this.toggle(video, event.key === "-"); }
    });
    card.markPicked = () => {
      const wanted = key(termOf(video, false));
      const known = this.terms.find((one) => key(one) === wanted);
      card.classList.toggle("example", Boolean(known && !known.negative));
      card.classList.toggle("counter-example", Boolean(known?.negative));
      buttons[0].setAttribute("aria-pressed", String(Boolean(known && !known.negative)));
      buttons[1].setAttribute("aria-pressed", String(Boolean(known?.negative)));
    };
    card.markPicked();
  }
}
