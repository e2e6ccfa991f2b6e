"""Style sheet of a report page: light and dark, one column on a phone, two on wider screens."""

CSS = """
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --card: #ffffff; --ink: #1d2126; --muted: #5b636c; --lines: #d5d9de;
  --accent: #0b72b5; --wrong: #b3470b; --tile: #e3e6ea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --card: #1d2127; --ink: #e8ebee; --muted: #a3abb4; --lines: #3b424a;
    --accent: #58b0e8; --wrong: #f0965c; --tile: #2b3037;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
p { margin: .35rem 0; }
.sub, figcaption, .note, footer, dt { color: var(--muted); font-size: .9rem; }
.sub { overflow-wrap: anywhere; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0;
}
.tile, section {
  background: var(--card); border: 1px solid var(--lines); border-radius: .6rem; padding: 1rem;
}
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile.main { grid-column: span 2; }
.tile.main b { font-size: 2.6rem; color: var(--accent); }
.tile span { color: var(--muted); font-size: .9rem; }
section { break-inside: avoid; margin-bottom: 1rem; }
/* Columns, not a grid: a short card does not stretch beside a long one. */
@media (min-width: 60rem) {
  .cards { columns: 2; column-gap: 1rem; }
  .wide { column-span: all; margin-top: 1rem; }
}
figure { margin: 0; }
.picture { overflow-x: auto; }
.picture svg { display: block; width: 100%; height: auto; margin: 0 auto; }
.picture svg text { font-family: inherit !important; }
.picture svg image { image-rendering: pixelated; }
.mistakes {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr));
  gap: 1rem; list-style: none; margin: .75rem 0 0; padding: 0;
}
.strip { display: grid; grid-template-columns: repeat(3, 1fr); gap: 2px; }
.strip img, .strip .gone {
  width: 100%; aspect-ratio: 4 / 3; object-fit: cover; border-radius: .25rem; display: block;
}
.strip .gone {
  grid-column: 1 / -1; aspect-ratio: 4 / 1; background: var(--tile); color: var(--muted);
  display: grid; place-items: center; font-size: .85rem; text-align: center; padding: .5rem;
}
.said { color: var(--wrong); font-weight: 600; }
.path { font-size: .82rem; color: var(--muted); overflow-wrap: anywhere; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td {
  text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--lines);
  white-space: nowrap;
}
th { font-weight: 600; color: var(--muted); font-size: .85rem; }
tr.chosen td { font-weight: 700; }
dl {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .25rem 1rem; margin: 0;
}
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  dl { grid-template-columns: minmax(0, 1fr); }
  dd { margin-bottom: .4rem; }
}
footer { margin-top: 1.5rem; overflow-wrap: anywhere; }
@media print { body { background: white; } section, .tile { break-inside: avoid; } }
"""
