// Small pieces that every view is made of.
export const $ = (id) => document.getElementById(id);
export const percent = (share) => (share == null ? "–" : `${(100 * share).toFixed(1)} %`);
export const ms = (s) => (s == null ? "–" : s < 0.01 ? `${(1000 * s).toFixed(1)} ms` : s < 10 ? `${Math.round(1000 * s)} ms` : `${s.toFixed(1)} s`);
export const number = (value, digits = 1) => (value == null ? "–" : value.toFixed(digits));

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// Writing the same text again would lay the page out again.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const SVG = "http://www.w3.org/2000/svg";
function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Lines in a frame; each line is a list of [x, y or null]. Returns a <figure> that says what it shows.
export function chart(title, lines, { x0, x1, top, unit = "" }) {
  const most = top ?? Math.max(0, ...lines.flatMap(({ points }) => points.map(([, y]) => y ?? 0)));
  const svg = shape("svg", { class: "chart", viewBox: "0 0 300 60", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const { points, style } of lines) {
    let path = "";
    let pen = "M";
    for (const [x, y] of points) {
      if (y == null) { pen = "M"; continue; }
      const at = 300 * (x - x0) / Math.max(1e-9, x1 - x0);
      // The short stroke makes a point visible that stands alone.
      path += `${pen}${at.toFixed(1)} ${(58 - 55 * Math.min(1, y / (most || 1))).toFixed(1)}l.1 0`;
      pen = "L";
    }
    svg.append(shape("path", { d: path || "M0 58", class: style }));
  }
  const scale = most ? `, up to ${most >= 10 ? most.toFixed(0) : most.toPrecision(2)} ${unit}` : ": nothing yet";
  return make("figure", {}, make("figcaption", {}, title + scale), svg);
}
