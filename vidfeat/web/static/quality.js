// Precision by class with its interval, and the learning curve.

const percent = (value) => `${Math.round(100 * value)} %`;

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// A bar from 0 to 1 with the interval and the value in it.
function bar({ value, low, high }) {
  const picture = svg("svg", { viewBox: "0 0 100 10", class: "interval", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(
    svg("rect", { x: 0, y: 4, width: 100, height: 2, class: "rail" }),
    svg("rect", { x: 100 * low, y: 2, width: Math.max(1, 100 * (high - low)), height: 6, class: "range" }),
    svg("rect", { x: Math.min(98.5, Math.max(0, 100 * value - 0.75)), y: 0, width: 1.5, height: 10, class: "value" }),
  );
  return picture;
}

function curve(points) {
  const wide = 260, high = 96, left = 30, bottom = 18;
  const most = points.at(-1).labels;
  const x = (labels) => left + ((wide - left - 8) * Math.log(labels / points[0].labels + 1e-9)) / Math.max(Math.log(most / points[0].labels), 1e-9);
  const at = (point) => (points.length === 1 ? wide / 2 : x(point.labels));
  const least = Math.max(0, Math.floor(10 * Math.min(...points.map((point) => point.low)) - 0.5) / 10);
  const y = (value) => 6 + ((high - bottom - 6) * (1 - value)) / (1 - least);
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${high}`, class: "curve", role: "img" });
  picture.setAttribute("aria-label", points.map((point) => `${point.labels} labels: ${percent(point.value)}`).join(", "));
  const text = (at_x, at_y, words, anchor) => {
    const element = svg("text", { x: at_x, y: at_y, "text-anchor": anchor });
    element.textContent = words;
    picture.append(element);
  };
  const area = [...points.map((p) => `${at(p)},${y(p.high)}`), ...[...points].reverse().map((p) => `${at(p)},${y(p.low)}`)];
  picture.append(svg("polygon", { points: area.join(" "), class: "range" }));
  picture.append(svg("polyline", { points: points.map((p) => `${at(p)},${y(p.value)}`).join(" "), class: "line" }));
  for (const point of points) picture.append(svg("circle", { cx: at(point), cy: y(point.value), r: 2.6, class: "value" }));
  text(left - 5, 10, "100", "end");
  text(left - 5, high - bottom, String(Math.round(100 * least)), "end");
  for (const point of points.length > 3 ? [points[0], points.at(-1)] : points) text(at(point), high - 4, String(point.labels), "middle");
  return picture;
}

export function drawQuality(box, quality, colourOf) {
  const short = document.getElementById("lesson-short");
  if (!quality) {
    short.textContent = "Precision";
    box.replaceChildren(make("p", "", "To see the precision, label clips of two classes in two videos each."));
    return;
  }
  const { accuracy } = quality;
  short.textContent = `Precision ${percent(accuracy.value)}`;
  const table = make("table");
  const head = make("tr");
  for (const name of ["class", "labels", "precision", ""]) head.append(make("th", "", name));
  table.append(head);
  for (const one of quality.classes) {
    const row = make("tr");
    const name = make("td", "class-name", one.name);
    name.dataset.colour = colourOf(one.name);
    const figure = make("td");
    const picture = make("td", "wide");
    if (one.precision) {
      figure.textContent = `${percent(one.precision.value)} (${percent(one.precision.low)} – ${percent(one.precision.high)})`;
      picture.append(bar(one.precision));
    } else figure.textContent = "never predicted";
    row.append(name, make("td", "", String(one.labelled)), figure, picture);
    table.append(row);
  }
  const side = make("div", "curve-box");
  side.append(make("b", "", `Accuracy: ${percent(accuracy.value)} (${percent(accuracy.low)} – ${percent(accuracy.high)})`), curve(quality.curve), make("span", "", "labels"));
  const note = make("p", "", `Cross-validated on the labels so far, whole videos held out (${quality.folds} folds), with 95 % intervals. Uncertain clips are the hard ones: the collection as a whole is easier.`);
  box.replaceChildren(table, side, note);
}
