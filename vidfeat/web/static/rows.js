// A grid of any number of tiles: only those near the window exist, fetched a page at a time.

const AHEAD = 500;   // pixels above and below the window
const PAGE = 60;

export class VirtualGrid {
  // fetchPage(first, count): { total, items }; makeTile(item, index): an element.
  constructor(box, fetchPage, makeTile) {
    Object.assign(this, { box, fetchPage, makeTile });
    this.items = new Map();
    this.tiles = new Map();
    this.asked = new Set();
    this.turn = 0;
    this.total = 0;
    this.at = 0;  // the tile that keys apply to
    const draw = () => this.draw();
    addEventListener("scroll", draw, { passive: true });
    new ResizeObserver(() => { if (this.box.clientWidth !== this.width) this.measure(); }).observe(box);
  }

  // Forget what was fetched, and show the first page of the current items.
  async reload({ keepPlace = false } = {}) {
    const mine = ++this.turn;
    const first = keepPlace ? Math.max(0, this.at - (this.at % PAGE)) : 0;
    const found = await this.fetchPage(first, PAGE);
    if (mine !== this.turn) return null;
    this.items.clear();
    this.asked.clear();
    this.take(first, found);
    this.at = keepPlace ? Math.max(0, Math.min(this.at, this.total - 1)) : 0;
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.measure();
    return found;
  }

  take(first, { total, items }) {
    this.total = total;
    this.asked.add(Math.floor(first / PAGE));
    items.forEach((item, i) => this.items.set(first + i, item));
  }

  measure() {
    this.width = this.box.clientWidth;
    if (!this.width) return;
    const narrow = this.width < 620;
    this.gap = narrow ? 10 : 14;
    this.columns = Math.max(1, Math.floor((this.width + this.gap) / ((narrow ? 148 : 208) + this.gap)));
    this.across = (this.width - this.gap * (this.columns - 1)) / this.columns;
    this.down = Math.round(this.across * 9 / 16) + 66;
    const rows = Math.ceil(this.total / this.columns);
    this.box.style.height = `${Math.max(0, rows * (this.down + this.gap) - this.gap)}px`;
    this.draw();
  }

  range() {
    const top = this.box.getBoundingClientRect().top;
    const row = this.down + this.gap;
    const low = Math.max(0, Math.floor((-top - AHEAD) / row)) * this.columns;
    const high = Math.min(this.total, Math.ceil((innerHeight - top + AHEAD) / row) * this.columns);
    return [low, high];
  }

  draw() {
    if (!this.width || !this.box.isConnected || this.box.closest("[hidden]")) return;
    const [low, high] = this.range();
    for (const [index, tile] of this.tiles) {
      if ((index < low || index >= high) && tile !== document.activeElement) {
        tile.remove();
        this.tiles.delete(index);
      }
    }
    for (let index = low; index < high; index++) {
      let tile = this.tiles.get(index);
      if (!tile) {
        const item = this.items.get(index);
        if (!item) { this.need(index); continue; }
        tile = this.makeTile(item, index);
        tile.dataset.index = index;
        this.tiles.set(index, tile);
        this.box.append(tile);
      }
      tile.style.width = `${this.across}px`;
      tile.style.height = `${this.down}px`;
      tile.style.transform = `translate(${(index % this.columns) * (this.across + this.gap)}px, ${Math.floor(index / this.columns) * (this.down + this.gap)}px)`;
    }
    this.mark();
  }

  async need(index) {
    const page = Math.floor(index / PAGE);
    if (this.asked.has(page)) return;
    this.asked.add(page);
    const mine = this.turn;
    try {
      const found = await this.fetchPage(page * PAGE, PAGE);
      if (mine !== this.turn) return;
      this.take(page * PAGE, found);
      this.draw();
    } catch {
      this.asked.delete(page);
    }
  }

  mark() {
    for (const [index, tile] of this.tiles) {
      tile.classList.toggle("at", index === this.at);
      tile.tabIndex = index === this.at ? 0 : -1;
    }
  }

  // Go to a tile: bring it into the window, and give it the focus.
  go(index, focus = true) {
    if (!this.total) return;
    this.at = Math.max(0, Math.min(index, this.total - 1));
    const top = this.box.getBoundingClientRect().top + Math.floor(this.at / this.columns) * (this.down + this.gap);
    const bars = 150;
    if (top < bars) scrollBy(0, top - bars);
    else if (top + this.down > innerHeight - 10) scrollBy(0, top + this.down - innerHeight + 20);
    this.draw();
    if (focus) this.tiles.get(this.at)?.focus({ preventScroll: true });
  }

  step(key) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -4 * this.columns, PageDown: 4 * this.columns, Home: -this.total, End: this.total }[key];
    if (step === undefined) return false;
    const inside = this.box.contains(document.activeElement);
    this.go(inside ? this.at + step : this.at);
    return true;
  }
}
