// Small pictures of a video over time, under the bar on which a segment is chosen.

import { thumb } from "./grid.js";

const FEWEST = 4;
const ASPECT = 16 / 9;

export function drawStrip(strip, video) {
  strip.replaceChildren();
  strip.hidden = video.missing || !video.duration || Boolean(video.upload && !video.url);
  if (strip.hidden) return;
  const count = Math.max(FEWEST, Math.round(strip.clientWidth / (strip.clientHeight * ASPECT)) || FEWEST);
  const middles = Array.from({ length: count }, (_, i) => ((i + 0.5) * video.duration) / count);
  if (video.upload) drawLocal(strip, video, middles);
  else {
    strip.append(...middles.map((second) => {
      const picture = document.createElement("img");
      picture.alt = "";
      picture.loading = "lazy";
      picture.decoding = "async";
      picture.draggable = false;
      picture.src = thumb(video.id, second);
      picture.onerror = () => picture.classList.add("none");
      return picture;
    }));
  }
}

// A dropped file is already on this machine: pictures are taken from the file itself.
async function drawLocal(strip, video, middles) {
  const canvases = middles.map(() => Object.assign(document.createElement("canvas"), { width: 160, height: 90 }));
  strip.append(...canvases);
  const source = document.createElement("video");
  source.muted = true;
  source.preload = "auto";
  source.src = video.url;
  for (const [i, second] of middles.entries()) {
    source.currentTime = second;
    const there = await new Promise((done) => {
      source.onseeked = () => done(true);
      source.onerror = () => done(false);
      setTimeout(() => done(false), 4000);
    });
    if (!there || !canvases[i].isConnected) break;
    canvases[i].getContext("2d").drawImage(source, 0, 0, 160, 90);
  }
  source.removeAttribute("src");
  source.load();
}
