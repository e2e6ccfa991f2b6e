// The folder filter: a tree that opens level by level, and a search over all folders.

const $ = (id) => document.getElementById(id);
const plain = new Intl.NumberFormat("en");

export class FolderPicker {
  // ask(path): JSON from the server; changed(): called when the folder in #folder has changed.
  constructor(ask, changed) {
    this.ask = ask;
    this.changed = changed;
    this.turn = 0;
    $("folder-button").onclick = () => this.toggle();
    $("folder-text").oninput = () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.fill(), 120);
    };
    $("folder-panel").addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("pointerdown", (event) => {
      if (!$("folder-field").contains(event.target)) this.close();
    });
  }

  toggle() {
    if ($("folder-panel").hidden) this.open();
    else this.close();
  }

  open() {
    $("folder-panel").hidden = false;
    $("folder-button").setAttribute("aria-expanded", "true");
    $("folder-text").value = "";
    $("folder-text").focus();
    this.fill();
  }

  close() {
    if ($("folder-panel").hidden) return;
    $("folder-panel").hidden = true;
    $("folder-button").setAttribute("aria-expanded", "false");
  }

  choose(path) {
    $("folder").value = path;
    $("folder-button").firstElementChild.textContent = path || "All folders";
    $("folder-button").title = path;
    this.close();
    $("folder-button").focus();
    this.changed();
  }

  async fill() {
    const mine = ++this.turn;
    const text = $("folder-text").value;
    const tree = $("folder-tree");
    try {
      const { total, folders } = await this.ask(`api/folders?${new URLSearchParams(text ? { text } : { parent: "" })}`);
      if (mine !== this.turn) return;
      tree.replaceChildren();
      if (!text) tree.append(this.row({ path: "", name: "All folders", folders: 0 }, 0));
      tree.append(...folders.map((folder) => this.row(text ? { ...folder, name: folder.path, folders: 0 } : folder, 0)));
      if (total > folders.length) tree.append(this.note(`${plain.format(total - folders.length)} more folders: type more of the name.`));
      if (!total) tree.append(this.note("No folder has this in its name."));
    } catch (error) {
      if (mine === this.turn) tree.replaceChildren(this.note(error.message));
    }
  }

  note(text) {
    const note = document.createElement("p");
    note.textContent = text;
    return note;
  }

  row(folder, depth) {
    const row = document.createElement("div");
    row.className = "folder-row";
    row.setAttribute("role", "treeitem");
    row.tabIndex = -1;
    row.dataset.path = folder.path;
    row.style.paddingInlineStart = `${8 + 16 * depth}px`;
    row.depth = depth;
    const arrow = document.createElement("i");
    if (folder.folders) {
      row.setAttribute("aria-expanded", "false");
      arrow.textContent = "▸";
      arrow.onclick = (event) => { event.stopPropagation(); this.expand(row); };
    }
    const name = document.createElement("span");
    name.textContent = folder.name;
    row.title = folder.path;
    row.append(arrow, name);
    if (folder.videos) {
      const count = document.createElement("small");
      count.textContent = plain.format(folder.videos);
      row.append(count);
    }
    if (folder.path === $("folder").value) row.setAttribute("aria-selected", "true");
    row.onclick = () => this.choose(folder.path);
    return row;
  }

  async expand(row, open = row.getAttribute("aria-expanded") === "false") {
    if (!row.hasAttribute("aria-expanded") || open === (row.getAttribute("aria-expanded") === "true")) return;
    row.setAttribute("aria-expanded", String(open));
    row.firstElementChild.textContent = open ? "▾" : "▸";
    if (!open) {
      while (row.nextElementSibling?.depth > row.depth) row.nextElementSibling.remove();
      return;
    }
    const { folders } = await this.ask(`api/folders?${new URLSearchParams({ parent: row.dataset.path })}`);
    if (row.getAttribute("aria-expanded") === "true") row.after(...folders.map((one) => this.row(one, row.depth + 1)));
  }

  key(event) {
    const row = event.target.closest(".folder-row");
    const rows = [...$("folder-tree").querySelectorAll(".folder-row")];
    const move = (to) => { (to ?? $("folder-text")).focus(); };
    if (event.key === "Escape") { this.close(); $("folder-button").focus(); }
    else if (event.key === "ArrowDown") move(row ? rows[rows.indexOf(row) + 1] ?? row : rows[0]);
    else if (event.key === "ArrowUp") move(row ? rows[rows.indexOf(row) - 1] : null);
    else if (event.key === "ArrowRight" && row) this.expand(row, true);
    else if (event.key === "ArrowLeft" && row) this.expand(row, false);
    else if (event.key === "Enter" && (row ?? rows[0])) this.choose((row ?? rows[$("folder-text").value ? 0 : 1] ?? rows[0]).dataset.path);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
