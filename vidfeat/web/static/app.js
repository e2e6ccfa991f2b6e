// The page: the address after # says what is shown, so that back and forward work.
//   #            all videos            #v=a/b.mp4       search with the video of that path
//   #v=a/b.mp4&s=3.2&e=5               with a segment   #u=TOKEN  with an upload   #map   #teach
//   #phrase=...&like=...               with several examples: see terms.js

import { saveResults } from "./export.js";
import { drawStrip } from "./filmstrip.js";
import { FolderPicker } from "./folders.js";
import { ClipMap } from "./map.js";
import { moveFocus, setVersion, stopAll, tile } from "./grid.js";
import { isTerms, NAMES, Terms } from "./terms.js";
import { at, clock, info, load, seekTo, stop } from "./player.js";
import { Lesson } from "./teach.js";
import { plural } from "./words.js";

const $ = (id) => document.getElementById(id);
const PAGE = 60;
let site = null;
let listing = { first: 0, total: Infinity, token: 0, loading: false };
let query = null;        // { id | upload, name, duration, start, end, playable, url }
let segment = null;      // [start, end] chosen on the track
const dropped = new Map();  // token -> { url, name, duration }
let map = null;
let terms = null;        // the chips of a query of several examples
let lesson = null;       // teaching, once it was opened
let shown = [];          // the results on the page
let turn = 0;            // responses to an older turn are ignored

// ---------------------------------------------------------------- asking

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not respond.");
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(value.error ?? `The server responded with status ${answer.status}.`), { exists: value.exists });
  return value;
}

const capital = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

const filters = () => {
  const wanted = new URLSearchParams();
  if ($("folder").value) wanted.set("folder", $("folder").value);
  if ($("label").value) wanted.set("label", $("label").value);
  if ($("text").value) wanted.set("text", $("text").value);
  return wanted;
};

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function busy(text) {
  $("busy").hidden = !text;
  $("busy").querySelector("span").textContent = text ?? "";
}

// ---------------------------------------------------------------- where we are

function go(parts) {
  const hash = new URLSearchParams(parts).toString();
  if (`#${hash}` === location.hash) route();
  else location.hash = hash;
}

const searchWith = async (video) => {
  const parts = { v: video.path ?? (await info(video.id)).path };  // the map knows only numbers
  if (video.start !== undefined && video.end !== undefined) {
    parts.s = Number(video.start).toFixed(2);
    parts.e = Number(video.end).toFixed(2);
  }
  go(parts);
};

async function route() {
  const place = new URLSearchParams(location.hash.slice(1));
  const mine = ++turn;
  stopAll();
  const onMap = place.has("map");
  const teaches = place.has("teach");
  if (teaches && site.read_only) { go({}); return; }
  $("map").hidden = !onMap;
  $("teach").hidden = !teaches;
  $("lesson-bar").classList.toggle("away", !teaches);
  $("found").hidden = onMap || teaches;
  $("save-results").hidden = true;
  $("show-map").setAttribute("aria-pressed", String(onMap));
  document.title = `${site.name} · vidfeat`;
  if (onMap) {
    closeQuery();
    map ??= new ClipMap($("map"), searchWith);
    window.clipMap = map;
    await map.open(groups);
    return;
  }
  if (teaches) {
    closeQuery();
    lesson ??= new Lesson({ ask, filters, go, search: searchWith, say: sayOfLesson, target: pointedAt });
    window.lesson = lesson;
    await lesson.open().catch((error) => sayOfLesson(error.message, true));
    return;
  }
  terms.open(place);
  if (isTerms(place)) {
    closeQuery();
    try {
      await searchExamples(mine, place);
    } catch (error) {
      if (mine === turn) { $("grid").replaceChildren(); say(error.message, true); }
    }
    return;
  }
  if (!place.has("v") && !place.has("u")) {
    closeQuery();
    restart();
    return;
  }
  const start = place.has("s") ? Number(place.get("s")) : null;
  const end = place.has("e") ? Number(place.get("e")) : null;
  try {
    await openQuery(place.get("v"), place.get("u"), start, end, mine);
    if (mine === turn) await search(mine, start, end);
  } catch (error) {
    if (mine === turn) { $("grid").replaceChildren(); say(error.message, true); }
  }
}

// ---------------------------------------------------------------- teaching

function sayOfLesson(text, isError = false) {
  $("lesson-status").textContent = text;
  $("lesson-status").classList.toggle("error", isError);
}

// What a key labels outside of the lesson's own grid: a result, or the segment on the bar.
function pointedAt() {
  const inQuery = $("query").contains(document.activeElement);
  const card = document.querySelector("#grid .tile:hover") ?? (inQuery ? null : document.activeElement.closest?.("#grid .tile"));
  if (card?.dataset.start !== undefined) {
    return { id: Number(card.dataset.id), start: Number(card.dataset.start), end: Number(card.dataset.end), name: card.title, path: card.title, card };
  }
  if (!query || query.upload || !segment) return null;
  return { id: query.id, start: segment[0], end: segment[1], name: query.name, path: query.path };
}

const leave = () => { if (lesson?.on) lesson.close(); };

// ---------------------------------------------------------------- all videos

function restart() {
  listing = { first: 0, total: Infinity, token: listing.token + 1, loading: false };
  $("grid").replaceChildren();
  say("");
  more();
}

// By the address, not by what is shown: its response may still be on its way.
const lists = () => {
  const place = new URLSearchParams(location.hash.slice(1));
  return !["v", "u", "map", "teach", ...NAMES].some((name) => place.has(name));
};

async function more() {
  if (listing.loading || !lists() || listing.first >= listing.total) return;
  const { token } = listing;
  listing.loading = true;
  const wanted = filters();
  wanted.set("first", listing.first);
  wanted.set("count", PAGE);
  try {
    const { total, videos } = await ask(`api/videos?${wanted}`);
    if (token !== listing.token || !lists()) return;
    listing.total = total;
    listing.first += videos.length;
    $("grid").append(...videos.map((video) => tile(video, 0, null, { search: (one) => go({ v: one.path }), decorate })));
    say(`${plural(total, "video")}${total < site.videos ? ` of ${site.videos.toLocaleString("en")}` : `, ${plural(site.clips, "clip")}`}`);
    if (!total) $("grid").innerHTML = '<p class="empty">No videos match these filters.</p>';
  } catch (error) {
    say(error.message, true);
  } finally {
    if (token === listing.token) {
      listing.loading = false;
      if (listing.first < listing.total && near()) more();
    }
  }
}

const near = () => $("more").getBoundingClientRect().top < innerHeight + 900;

// ---------------------------------------------------------------- the query

async function openQuery(id, upload, start, end, mine) {
  let next;
  if (upload) {
    const kept = dropped.get(upload);
    next = {
      upload, id: `u${upload}`, name: kept?.name ?? "dropped video", path: kept?.name ?? "",
      duration: kept?.duration ?? 0, playable: kept?.playable ?? false, url: kept?.url,
    };
  } else {
    // The path, not the row: a rebuilt index renumbers its videos.
    const found = await ask(`api/find?${new URLSearchParams({ path: id })}`);
    next = await info(found.id);
  }
  if (mine !== turn) return;
  const same = query && String(query.id) === String(next.id);
  query = next;
  $("query").hidden = false;
  $("about-name").textContent = next.name;
  $("about-more").textContent = [next.folder && next.folder !== "." ? next.folder : "", next.label, next.duration ? clock(next.duration) : "", next.width ? `${next.width} × ${next.height}` : ""].filter(Boolean).join(" · ");
  document.title = `${next.name} · vidfeat`;
  choose(start !== null || end !== null ? [start ?? 0, end ?? next.duration] : null);
  if (same) { if (start !== null) seekTo($("player"), start, span()); return; }
  $("stage-note").hidden = !next.missing;
  $("stage-note").textContent = next.missing ? capital(next.why_missing) : "";
  if (next.missing) { stop($("player")); return; }
  const from = start ?? 0;
  if (next.playable) load($("player"), next, from, next.duration);
  else load($("player"), next, Math.max(0, from > 50 ? from - 5 : 0), Math.min(next.duration || 60, Math.max(0, from > 50 ? from - 5 : 0) + 60));
  $("player").play().catch(() => {});
  marks();
  drawStrip($("track-strip"), next);
}

function closeQuery() {
  if (!query) return;
  query = null;
  stop($("player"));
  $("query").hidden = true;
  choose(null);
}

const span = () => query?.duration || $("player").duration || 1;

function marks() {
  const clips = query?.clips ?? [];
  const step = clips.length > 1 ? (100 * (clips[1][0] - clips[0][0])) / span() : 100;
  $("track-clips").style.background = step > 0.7 && step < 100
    ? `repeating-linear-gradient(90deg, var(--dim) 0 1px, var(--line) 1px ${step}%)` : "";
}

function choose(part) {
  segment = part;
  $("chosen").hidden = !part;
  $("search-segment").disabled = !part;
  const whole = !new URLSearchParams(location.hash.slice(1)).has("s");
  $("whole").hidden = whole;
  if (document.activeElement !== $("from")) $("from").value = part ? part[0].toFixed(1) : "";
  if (document.activeElement !== $("to")) $("to").value = part ? part[1].toFixed(1) : "";
  if (part) {
    $("chosen").style.left = `${100 * part[0] / span()}%`;
    $("chosen").style.width = `${100 * (part[1] - part[0]) / span()}%`;
  }
}

function searchSegment() {
  if (!segment || !query) return;
  const parts = query.upload ? { u: query.upload } : { v: query.path };
  go({ ...parts, s: segment[0].toFixed(2), e: segment[1].toFixed(2) });
}

async function search(mine, start, end) {
  const wanted = filters();
  if (query.upload) wanted.set("upload", query.upload);
  else wanted.set("video", query.id);
  if (start !== null) wanted.set("start", start);
  if (end !== null) wanted.set("end", end);
  say("Searching …");
  const began = performance.now();
  if (query.upload && start !== null) busy("Embedding the segment …");
  try {
    const found = await ask(`api/search?${wanted}`);
    if (mine !== turn) return;
    show(found, performance.now() - began);
  } finally {
    busy(null);
  }
}

async function searchExamples(mine, place) {
  const wanted = new URLSearchParams([...terms.open(place), ...filters()]);
  say("Searching …");
  // The first phrase loads the text tower, which takes seconds.
  const slow = setTimeout(() => { if (mine === turn) busy("Embedding the phrases …"); }, 600);
  const began = performance.now();
  try {
    const found = await ask(`api/examples?${wanted}`);
    if (mine !== turn) return;
    terms.answered(found.terms);
    show(found, performance.now() - began, `like ${found.query.name}`);
  } finally {
    clearTimeout(slow);
    busy(null);
  }
}

const decorate = (card, picture, video) => terms.decorate(card, picture, video);

// The open query as the first of several examples.
function currentExample() {
  if (!query) return null;
  const place = new URLSearchParams(location.hash.slice(1));
  const part = { start: place.get("s"), end: place.get("e") };
  return query.upload
    ? { kind: "like_upload", value: query.upload, name: query.name, ...part }
    : { kind: "like", value: query.path, name: query.name, id: query.id, ...part };
}

function show(found, took, told) {
  const { results } = found;
  shown = results;
  $("save-results").hidden = !results.length;
  const scores = results.map((result) => result.score);
  const best = { high: Math.max(...scores), low: Math.min(...scores) };
  best.low -= 0.25 * (best.high - best.low || 1);
  $("grid").replaceChildren(...results.map((result, i) => tile(result, i + 1, best, { search: searchWith, decorate })));
  window.scrollTo({ top: 0 });
  const part = found.query.clips === 1 ? "one clip" : `${found.query.clips} clips`;
  say(results.length
    ? `${plural(results.length, "video")} ${told ?? `like ${clock(found.query.start)} – ${clock(found.query.end)} of ${found.query.name} (${part})`}, ${Math.max(1, Math.round(took))} ms`
    : "No results match these filters.");
}

// ---------------------------------------------------------------- choosing a segment

function listenTrack() {
  const track = $("track");
  const second = (event) => {
    const box = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * span();
  };
  let anchor = null;
  let began = 0;
  track.addEventListener("pointerdown", (event) => {
    if (!query) return;
    track.setPointerCapture(event.pointerId);
    began = event.clientX;
    const grip = event.target.classList;
    anchor = grip.contains("left") ? segment[1] : grip.contains("right") ? segment[0] : second(event);
  });
  track.addEventListener("pointermove", (event) => {
    if (anchor === null || Math.abs(event.clientX - began) < 4) return;
    const now = second(event);
    choose([Math.min(anchor, now), Math.max(anchor, now)]);
    seekTo($("player"), now);
  });
  const up = (event) => {
    if (anchor === null) return;
    if (Math.abs(event.clientX - began) < 4) seekTo($("player"), second(event), span());
    else if (segment && segment[1] - segment[0] < 0.04) choose(null);
    anchor = null;
  };
  track.addEventListener("pointerup", up);
  track.addEventListener("pointercancel", () => { anchor = null; });
  track.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.5, ArrowRight: 0.5 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.shiftKey && segment) choose([segment[0], Math.min(span(), Math.max(segment[0] + 0.1, segment[1] + step))]);
    else seekTo($("player"), Math.max(0, at($("player")) + step), span());
  });
  const typed = () => {
    const from = $("from").value === "" ? 0 : Number($("from").value);
    const to = $("to").value === "" ? span() : Number($("to").value);
    if (from >= 0 && to > from) choose([from, Math.min(to, span())]);
  };
  $("from").oninput = $("to").oninput = typed;
  $("from").onkeydown = $("to").onkeydown = (event) => { if (event.key === "Enter") searchSegment(); };
  const follow = () => {
    if (query) $("cursor").style.left = `${100 * Math.min(1, at($("player")) / span())}%`;
    requestAnimationFrame(follow);
  };
  requestAnimationFrame(follow);
}

function edge(which) {
  if (!query) return;
  const now = at($("player"));
  const [start, end] = segment ?? [0, span()];
  if (which === 0) choose([now, end > now ? end : span()]);
  else choose([start < now ? start : 0, now]);
}

// ---------------------------------------------------------------- dropping a file

async function upload(file) {
  if (!file) return;
  if (file.size > site.most_upload_bytes) {
    say(`${file.name} is larger than the ${Math.round(site.most_upload_bytes / 1e6)} MB allowed.`, true);
    return;
  }
  const mine = ++turn;
  busy(`Reading ${file.name} …`);
  const url = URL.createObjectURL(file);
  try {
    const wanted = filters();
    wanted.set("name", file.name);
    const [found, shown] = await Promise.all([
      ask(`api/upload?${wanted}`, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } }),
      look(url),
    ]);
    const { upload: token } = found.query;
    dropped.set(token, { url, name: file.name, playable: shown > 0, duration: shown || found.query.end });
    if (mine !== turn) return;
    go({ u: token });
  } catch (error) {
    URL.revokeObjectURL(url);
    if (mine === turn) say(error.message, true);
  } finally {
    busy(null);
  }
}

// Duration of a local file in seconds, 0 if this browser does not play it.
function look(url) {
  return new Promise((done) => {
    const probe = document.createElement("video");
    probe.preload = "metadata";
    probe.muted = true;
    probe.onloadedmetadata = () => done(probe.videoWidth && Number.isFinite(probe.duration) ? probe.duration : 0);
    probe.onerror = () => done(0);
    setTimeout(() => done(0), 8000);
    probe.src = url;
  });
}

function listenDrop() {
  let depth = 0;
  const files = (event) => !site.read_only && [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth++;
    $("drop").hidden = false;
  });
  addEventListener("dragleave", () => { if (--depth <= 0) { depth = 0; $("drop").hidden = true; } });
  addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    depth = 0;
    $("drop").hidden = true;
    if (!files(event)) return;
    event.preventDefault();
    upload(event.dataTransfer.files[0]);
  });
  $("choose-file").onclick = () => $("file").click();
  $("file").onchange = () => { upload($("file").files[0]); $("file").value = ""; };
}

// ---------------------------------------------------------------- the map's groups

async function groups() {
  const { names, groups: numbers, shown } = await ask(`api/groups?${filters()}`);
  return { names, of: (id) => numbers[id] ?? 0, shown: (id) => !shown || shown[id] === 1 };
}

// ---------------------------------------------------------------- keys, and the start

function listenKeys() {
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape") {
      if (document.querySelector("dialog[open]")) return;  // the dialog closes itself
      if (typing) { event.target.blur(); return; }
      if (document.querySelector(".tile.plays")) stopAll();
      else if (lesson?.escape()) return;
      else if (lesson?.on && !lesson.here) go({ teach: "" });
      else if (location.hash.length > 1) { leave(); go({}); }
      return;
    }
    if (typing || document.querySelector("dialog[open]")) return;
    if (lesson?.key(event)) { event.preventDefault(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (!$("map").hidden && /^(Arrow|[-+=0]$|Enter$)/.test(event.key) && document.activeElement === document.body) {
      $("canvas").focus({ preventScroll: true });
      $("canvas").dispatchEvent(new KeyboardEvent("keydown", { key: event.key }));
      event.preventDefault();
    } else if (event.key.startsWith("Arrow") && event.target.tagName !== "VIDEO" && $("map").hidden) {
      if (moveFocus($("grid"), event.key)) event.preventDefault();
    } else if (key === "/") { event.preventDefault(); $("text").focus(); }
    else if (key === "d" && $("phrase") && !$("found").hidden) { event.preventDefault(); $("phrase").focus(); }
    else if (key === "t" && !site.read_only) teach();
    else if (key === "m") go($("map").hidden ? { map: "" } : {});
    else if (key === "i") edge(0);
    else if (key === "o") { if (query) edge(1); else if (!site.read_only) $("file").click(); }
    else if (event.key === "?") $("help").showModal();
  });
}

function teach() {
  if (lesson?.on) { leave(); go({}); } else go({ teach: "" });
}

function theme() {
  const now = getComputedStyle(document.documentElement).colorScheme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = now;
  localStorage.setItem("theme", now);
  map?.repaint();
}

async function begin() {
  const kept = localStorage.getItem("theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  try {
    site = await ask("api/index");
  } catch (error) {
    say(error.message, true);
    return;
  }
  setVersion(site.version);
  terms = new Terms($("terms"), { go, current: currentExample }, site.text);
  $("name").textContent = site.name;
  const options = (select, list) => select.append(...list.map(([name, count]) => new Option(`${name} (${count})`, name)));
  $("folder-field").hidden = !site.folders;
  new FolderPicker(ask, route);
  options($("label"), site.labels);
  $("label-field").hidden = !site.labels.length;
  let typing = 0;
  $("text").oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => { if (!$("map").hidden || query || lesson?.here) route(); else restart(); }, 150);
  };
  $("label").onchange = route;
  $("home").onclick = (event) => { event.preventDefault(); $("text").value = ""; leave(); go({}); };
  $("close").onclick = () => go(lesson?.on ? { teach: "" } : {});
  $("show-map").onclick = () => go($("map").hidden ? { map: "" } : {});
  $("show-teach").hidden = $("choose-file").hidden = site.read_only;
  for (const line of document.querySelectorAll(".teaching")) line.hidden = site.read_only;
  $("show-teach").onclick = teach;
  $("save-results").onclick = () => saveResults(shown, query?.name ?? "results");
  $("search-segment").onclick = searchSegment;
  $("whole").onclick = () => go(query.upload ? { u: query.upload } : { v: query.path });
  $("theme").onclick = theme;
  $("keys").onclick = () => $("help").showModal();
  $("player").addEventListener("loadedmetadata", () => { if (segment) choose(segment); marks(); });
  new IntersectionObserver(more, { rootMargin: "900px" }).observe($("more"));
  listenTrack();
  listenDrop();
  listenKeys();
  addEventListener("hashchange", route);
  route();
}

begin();
