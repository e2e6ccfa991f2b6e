// Playing a segment of a video: the file itself where the browser can, an MP4 of the segment where
// it cannot. Times outside of this module are always seconds of the original video.

const known = new Map();

export async function info(id) {
  if (!known.has(id)) {
    known.set(id, fetch(`api/videos/${id}`).then((answer) => {
      if (!answer.ok) throw new Error("no such video");
      return answer.json();
    }));
    known.get(id).catch(() => known.delete(id));
  }
  return known.get(id);
}

export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = (tenths % 600) / 10;
  const minutes = Math.floor(tenths / 600) % 60;
  const hours = Math.floor(tenths / 36000);
  const tail = `${rest < 10 ? "0" : ""}${rest.toFixed(1)}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

// What `element` plays: `offset` is the second of the original at which its own time is 0.
export function load(element, source, start, end, { loop = false } = {}) {
  stop(element);
  const direct = source.playable;
  const offset = direct ? 0 : start;
  const state = { offset, start, end, loop, source, failed: false };
  element.vidfeat = state;
  element.dataset.offset = offset;
  if (direct) {
    element.src = source.url ?? `media/${source.id}`;
  } else {
    element.src = `clip/${source.id}?start=${start}&end=${end}`;
  }
  const seek = () => {
    if (element.vidfeat === state && direct) element.currentTime = start;
  };
  element.addEventListener("loadedmetadata", seek, { once: true });
  element.ontimeupdate = () => {
    if (element.vidfeat !== state) return;
    if (state.loop && element.currentTime + offset >= end - 0.02 && end > start) {
      element.currentTime = start - offset;
    }
  };
  element.onended = () => {
    if (element.vidfeat === state && state.loop) {
      element.currentTime = start - offset;
      element.play().catch(() => {});
    }
  };
  element.onerror = () => {
    if (element.vidfeat !== state || state.failed || !direct || source.id === undefined) return;
    state.failed = true;  // the browser disagrees about what it can play
    load(element, { ...source, playable: false }, start, end, { loop });
    element.play().catch(() => {});
  };
}

export function stop(element) {
  element.vidfeat = null;
  element.ontimeupdate = element.onended = element.onerror = null;
  element.pause();
  element.removeAttribute("src");
  element.load();
}

export const at = (element) => element.currentTime + (element.vidfeat?.offset ?? 0);

// With `length`, that of the whole video, positions outside the loaded segment are fetched too.
export function seekTo(element, seconds, length = 0) {
  const state = element.vidfeat;
  if (!state) return;
  const own = seconds - state.offset;
  if (own >= 0 && (!Number.isFinite(element.duration) || own <= element.duration + 0.05)) {
    element.currentTime = own;
  } else if (length && !state.source.playable) {
    const from = Math.max(0, Math.min(seconds, length) - 5);
    load(element, state.source, from, Math.min(length, from + 60), { loop: state.loop });
    element.addEventListener("loadedmetadata", () => seekTo(element, seconds), { once: true });
    element.play().catch(() => {});
  }
}
