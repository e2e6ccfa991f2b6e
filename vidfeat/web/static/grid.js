// Tiles: videos to search with, or results that play in place from the matching second on.

import { clock, info, load, stop } from "./player.js";

let version = "";
export const setVersion = (text) => { version = encodeURIComponent(text); };
export const thumb = (id, second) => `thumb/${id}?t=${Math.max(0, second).toFixed(1)}&v=${version}`;

const HOVER_MS = 130;

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function icon() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zm5 11.5L20 20");
  path.setAttribute("class", "line");
  svg.append(path);
  return svg;
}

// `rank` is 0 for videos that are not results.
export function tile(video, rank, best, act) {
  const card = make("article", "tile");
  card.tabIndex = 0;
  card.dataset.id = video.id;
  card.setAttribute("role", "button");
  const isResult = rank > 0;
  const picture = make("div", "pic");
  const image = make("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  const second = isResult ? (video.start + video.end) / 2 : video.duration * 0.3;
  image.src = thumb(video.id, second);
  image.onerror = () => card.classList.add("missing");
  picture.append(image);
  const text = make("div", "text");
  text.append(make("b", "", video.name));
  const more = make("span");
  if (isResult) {
    card.dataset.start = video.start;
    card.dataset.end = video.end;
    picture.append(make("span", "rank", String(rank)));
    picture.append(make("span", "chip", `${clock(video.start)} – ${clock(video.end)}`));
    const same = make("button", "same");
    same.type = "button";
    same.append(icon(), make("span", "", "More like this"));
    same.title = "Search with this segment (S)";
    same.setAttribute("aria-label", "Search with this segment");
    same.onclick = (event) => { event.stopPropagation(); act.search(video); };
    picture.append(same);
    const bar = make("div", "score");
    const fill = make("i");
    fill.style.width = `${100 * Math.max(0.02, Math.min(1, (video.score - best.low) / (best.high - best.low || 1)))}%`;
    bar.append(fill);
    text.append(bar);
    more.append(make("span", "", video.score.toFixed(3)));
    card.setAttribute("aria-label", `${rank}: ${video.path}, from ${clock(video.start)}, score ${video.score.toFixed(3)}. Enter plays it.`);
  } else {
    picture.append(make("span", "chip", clock(video.duration)));
    card.setAttribute("aria-label", `${video.path}, ${clock(video.duration)}. Enter searches with it.`);
  }
  if (video.label) more.append(make("span", "tag", video.label));
  if (video.folder !== ".") more.append(make("span", "where", video.folder));
  text.append(more);
  card.append(picture, text);
  card.title = video.path;
  act.decorate?.(card, picture, video);

  let timer = 0;
  card.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "touch") return;
    timer = setTimeout(() => preview(card, video, isResult), HOVER_MS);
  });
  card.addEventListener("pointerleave", () => { clearTimeout(timer); endPreview(card); });
  const go = () => {
    clearTimeout(timer);
    if (isResult) playInPlace(card, video);
    else act.search(video);
  };
  card.addEventListener("click", (event) => { if (event.target.tagName !== "VIDEO") go(); });
  card.addEventListener("keydown", (event) => {
    if (event.target !== card) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(); }
    if (event.key.toLowerCase() === "s" && isResult && !event.ctrlKey && !event.metaKey) act.search(video);
  });
  return card;
}

async function preview(card, video, isResult) {
  if (card.classList.contains("plays") || card.classList.contains("missing")) return;
  const element = make("video");
  element.muted = true;
  element.playsInline = true;
  element.disablePictureInPicture = true;
  element.className = "preview";
  card.querySelector(".pic").append(element);
  try {
    const found = await info(video.id);
    if (!element.isConnected || found.missing) { element.remove(); return; }
    const start = isResult ? video.start : 0;
    const end = isResult ? Math.max(video.end, video.start + 0.5) : Math.min(video.duration, 20);
    load(element, found, start, end, { loop: true });
    element.addEventListener("playing", () => element.classList.add("on"), { once: true });
    await element.play();
  } catch { /* it stays a picture */ }
}

function endPreview(card) {
  for (const element of card.querySelectorAll("video.preview")) { stop(element); element.remove(); }
}

export function stopAll() {
  for (const card of document.querySelectorAll(".tile.plays")) end(card);
  for (const card of document.querySelectorAll(".tile")) endPreview(card);
}

function end(card) {
  card.classList.remove("plays");
  for (const element of card.querySelectorAll("video")) { stop(element); element.remove(); }
}

export async function playInPlace(card, video) {
  const again = card.classList.contains("plays");
  stopAll();
  if (again || card.classList.contains("missing")) return;
  const element = make("video", "on");
  element.controls = true;
  element.playsInline = true;
  card.classList.add("plays");
  card.querySelector(".pic").append(element);
  try {
    const found = await info(video.id);
    if (found.missing) { end(card); card.classList.add("missing"); return; }
    load(element, found, video.start, video.end);
    await element.play().catch(() => { element.muted = true; return element.play(); });
  } catch { end(card); }
}

// Arrow keys move from tile to tile, by their positions on the screen.
export function moveFocus(grid, key) {
  const tiles = [...grid.children].filter((child) => child.classList.contains("tile"));
  if (!tiles.length) return false;
  const now = tiles.indexOf(document.activeElement);
  if (now < 0) { tiles[0].focus(); return true; }
  const columns = tiles.filter((card) => card.offsetTop === tiles[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const next = tiles[Math.min(Math.max(now + step, 0), tiles.length - 1)];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}
