// What a model's requests go to, side by side; a share is moved with one form.
import { ask } from "./api.js";
import { $, make, ms, number, percent, say } from "./draw.js";

const tables = new Map();
let preferred = null; // the place that was added last, until it is offered
const COLUMNS = ["Variant", "Share", "Requests", "Failed", "Elsewhere", "Attained", "TTFT p50 / p99", "TPOT p50 / p99", "Tokens out", "$ per million"];
const fine = (s) => (s == null ? "–" : `${(1000 * s).toFixed(1)} ms`);

function table(model, act) {
  const note = make("p", { class: "quiet" });
  const body = make("tbody");
  const end = make("button", { type: "button", onclick: () => act(model) }, "End");
  const whole = make("article", { "aria-label": `variants of ${model}` },
    make("h3", {}, model, " ", end), note,
    make("div", { class: "scroll" }, make("table", {},
      make("caption", { class: "unseen" }, `Variants of ${model}, compared`),
      make("thead", {}, make("tr", {}, ...COLUMNS.map((name, index) => make("th", { scope: "col", class: index ? "n" : null }, name)))), body)));
  $("compared").append(whole);
  return { whole, note, body, lines: new Map() };
}

function words(row) {
  return [row.variant, percent(row.share), `${row.requests}`, `${row.failed}`, `${row.elsewhere}`, percent(row.attainment),
    `${ms(row.first_token_s.p50)} / ${ms(row.first_token_s.p99)}`, `${fine(row.per_token_s.p50)} / ${fine(row.per_token_s.p99)}`,
    `${row.output_tokens}`, row.usd_per_million_output_tokens == null ? "–" : number(row.usd_per_million_output_tokens, 2)];
}

function options(choice, groups) {
  const key = JSON.stringify(groups);
  if (choice.dataset.key === key) return;
  const before = choice.value;
  choice.dataset.key = key;
  choice.replaceChildren(...Object.entries(groups).map(([label, names]) => make("optgroup", { label },
    ...names.map((name) => make("option", { value: `${label}/${name}` }, name)))));
  if ([...choice.options].some(({ value }) => value === before)) choice.value = before;
}

export function variants(found, done) {
  const act = (model) => done(() => change(model, { variants: null, shadow: null }, ""), `${model}: shared out by load again`);
  const present = new Set();
  for (const each of found.variants) {
    present.add(each.model);
    if (!tables.has(each.model)) tables.set(each.model, table(each.model, act));
    const { note, body, lines } = tables.get(each.model);
    say(note, `since ${each.since_s < 120 ? `${each.since_s.toFixed(0)} s` : `${(each.since_s / 60).toFixed(0)} min`}; sticky by ${each.sticky}`);
    const names = new Set(each.variants.map(({ variant }) => variant));
    for (const [name, line] of lines) if (!names.has(name)) { line.remove(); lines.delete(name); }
    for (const row of each.variants) {
      if (!lines.has(row.variant)) {
        lines.set(row.variant, make("tr", {}, ...COLUMNS.map((_, index) => make(index ? "td" : "th", { class: index ? "n" : null, scope: index ? null : "row" }))));
        body.append(lines.get(row.variant));
      }
      const cells = lines.get(row.variant).children;
      words(row).forEach((text, index) => say(cells[index], text));
      cells[3].className = row.failed ? "n bad" : "n";
    }
  }
  for (const [model, { whole }] of tables) if (!present.has(model)) { whole.remove(); tables.delete(model); }
  $("undivided").hidden = present.size > 0;
  const unique = (names) => [...new Set(names)].sort();
  const form = $("shift").elements;
  options(form.model, { models: unique(found.endpoints.flatMap(({ models }) => models)) });
  options(form.place, { endpoints: unique(found.endpoints.map(({ id }) => id)), pools: unique(found.endpoints.map(({ pool }) => pool)) });
  if (preferred && [...form.place.options].some(({ value }) => value === preferred)) {
    form.place.value = preferred;
    preferred = null;
  }
}

export function prefer(id) { preferred = `endpoints/${id}`; }

async function change(model, patch, reason) {
  const etag = (await ask("GET", "/policy")).headers.get("etag");
  const headers = { "if-match": etag, "x-change-by": "dashboard", "x-change-reason": reason };
  await ask("PATCH", "/policy", { body: { models: { [model]: patch } }, headers });
}

export function startVariants(done) {
  $("shift").addEventListener("submit", (event) => {
    event.preventDefault();
    const { model, place, percent: part, kind } = Object.fromEntries(new FormData(event.target));
    const name = model.slice(model.indexOf("/") + 1);
    const [what, where] = [place.slice(0, place.indexOf("/")), place.slice(place.indexOf("/") + 1)];
    const there = { endpoints: [], pools: [], [what]: [where], share: Number(part) / 100 };
    const patch = kind === "copies" ? { shadow: there } : { variants: { [where]: there } };
    done(() => change(name, patch, ""), `${name}: ${part} % ${kind === "copies" ? "copied" : "moved"} to ${where}`);
  });
}
