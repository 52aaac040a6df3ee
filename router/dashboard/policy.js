// The policy as a form made from its schema: every field with its meaning; dry-run, apply, go back.
import { ask, get } from "./api.js";
import { $, chart, make, ms, percent } from "./draw.js";

let present = {};
let etag = "";
let edits = new Map();

const at = (tree, way) => way.reduce((inside, key) => inside?.[key], tree);

function* leaves(schema, defs, way = []) {
  const known = schema.$ref ? { ...defs[schema.$ref.split("/").pop()], ...schema, $ref: undefined } : schema;
  if (known.properties) {
    for (const [key, inside] of Object.entries(known.properties)) yield* leaves(inside, defs, [...way, key]);
  } else if (known.type !== "object") yield { way, schema: known, defs };
}

function input({ way, schema, defs }, id) {
  const value = at(present, way);
  const branches = (schema.anyOf ?? [schema]).map((each) => (each.$ref ? defs[each.$ref.split("/").pop()] : each));
  const optional = branches.some(({ type }) => type === "null");
  const kind = branches.find(({ type }) => type !== "null") ?? {};
  const options = kind.enum ?? (kind.type === "boolean" ? ["true", "false"] : null);
  if (options) {
    const choice = make("select", { id }, ...(optional ? ["none"] : []).concat(options).map((each) => make("option", {}, each)));
    choice.value = value == null ? "none" : String(value);
    return { element: choice, kind };
  }
  return { element: make("input", { id, value: value ?? "", placeholder: optional ? "none" : "", autocomplete: "off", inputmode: "decimal" }), kind };
}

function read(text, kind) {
  if (text === "" || text === "none") return "none";
  if (kind.type === "boolean") return text === "true";
  if (kind.type === "number" || kind.type === "integer") return Number.isNaN(Number(text)) ? text : Number(text);
  return text;
}

function patch() {
  const tree = {};
  for (const [place, value] of edits) {
    const way = place.split(".");
    let inside = tree;
    for (const key of way.slice(0, -1)) inside = inside[key] ??= {};
    inside[way.at(-1)] = value;
  }
  return tree;
}

function mark() {
  const count = edits.size;
  $("pending").textContent = count ? `${count} edited: ${[...edits].map(([place, value]) => `${place} = ${value}`).join(", ")}` : "Nothing changed yet";
  $("apply").disabled = $("reset").disabled = count === 0;
}

export async function loadPolicy() {
  const [answer, schema] = await Promise.all([ask("GET", "/policy"), get("/policy/schema")]);
  etag = answer.headers.get("etag");
  present = await answer.json();
  edits = new Map();
  $("policy-version").textContent = `version ${etag.slice(1).split("-")[0]}`;
  const policy = schema.$defs.Policy;
  $("fields").replaceChildren(...[...leaves(policy, schema.$defs)].map((leaf) => {
    const place = leaf.way.join(".");
    const id = `set-${place}`;
    const { element, kind } = input(leaf, id);
    const line = make("div", { class: "setting" }, make("label", { for: id }, place), element,
      make("small", {}, leaf.schema.description ?? ""));
    element.addEventListener("change", () => {
      const value = read(element.value.trim(), kind);
      const before = at(present, leaf.way) ?? "none";
      if (value === before) edits.delete(place); else edits.set(place, value);
      line.classList.toggle("changed", edits.has(place));
      mark();
    });
    return line;
  }));
  find();
  mark();
  await loadHistory();
}

function find() {
  const wanted = $("find-setting").value.toLowerCase();
  for (const line of $("fields").children) line.hidden = !line.textContent.toLowerCase().includes(wanted);
}

async function loadHistory() {
  const { versions, present: latest } = await get("/policy/history");
  $("history").replaceChildren(...versions.map((each) => make("li", { value: each.version },
    `${(each.at ?? "").slice(0, 19).replace("T", " ")} ${each.who}: ${each.action}${each.reason ? `, “${each.reason}”` : ""} `,
    each.difference.length ? make("span", { class: "quiet" }, each.difference.map((d) => `${d.pointer}: ${JSON.stringify(d.before)} → ${JSON.stringify(d.after)}`).join("; ") + " ") : null,
    each.version === latest ? make("strong", {}, "present") : make("button", { type: "button", "data-version": each.version, "aria-label": `Roll back to version ${each.version}` }, "Roll back"))));
}

function forecast(found) {
  const rows = [];
  for (const name of Object.keys(found.outcomes.present.classes)) {
    const both = ["present", "proposed"].map((key) => [key, found.outcomes[key].classes[name]]);
    for (const [key, group] of both) {
      rows.push(make("tr", {}, make("td", {}, name), make("td", {}, key), make("td", { class: "n" }, percent(group.attainment.mean)),
        make("td", { class: "n" }, percent(group.shed)), make("td", { class: "n" }, ms(group.first_token_s.p99)), make("td", { class: "n" }, ms(group.per_token_s.p50))));
    }
  }
  const charts = Object.keys(found.outcomes.present.classes).map((name) => {
    const curve = (key) => found.outcomes[key].classes[name].first_token_curve.map((point) => [point[0], point[1]]);
    const lines = [{ points: curve("present"), style: "a" }, { points: curve("proposed"), style: "b" }];
    const x1 = Math.max(0.001, ...lines.flatMap(({ points }) => points.map(([x]) => x)));
    return chart(`${name}: share of first tokens that came within a time, 0 to ${ms(x1)}; present blue, proposed amber`, lines, { x0: 0, x1, top: 1 });
  });
  $("forecast").replaceChildren(
    make("p", {}, `${found.requests} requests of ${found.duration_s.toFixed(0)} s, replayed`),
    make("table", {}, make("thead", {}, make("tr", {}, ...["Class", "Policy", "Attained", "Shed", "TTFT p99", "TPOT p50"].map((each) => make("th", { scope: "col" }, each)))), make("tbody", {}, ...rows)),
    ...charts, ...found.notes.map((note) => make("p", { class: "quiet" }, note)));
}

export function startPolicy(done) {
  $("find-setting").addEventListener("input", find);
  $("reset").addEventListener("click", () => done(loadPolicy, "edits undone"));
  $("try").addEventListener("click", () => done(async () => {
    $("forecast").replaceChildren(make("p", { class: "quiet" }, "replaying …"));
    forecast(await (await ask("POST", "/policy/dry-run", { body: { patch: patch() } })).json());
  }, "dry-run done"));
  $("policy-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const reason = event.target.elements.reason.value;
    const headers = { "if-match": etag, "x-change-by": "dashboard", "x-change-reason": encodeLatin(reason) };
    done(async () => { await ask("PATCH", "/policy", { body: patch(), headers }); event.target.elements.reason.value = ""; await loadPolicy(); }, "applied");
  });
  $("history").addEventListener("click", (event) => {
    const { version } = event.target.dataset;
    if (version === undefined) return;
    done(async () => { await ask("POST", `/policy/rollback/${version}`, { headers: { "x-change-by": "dashboard" } }); await loadPolicy(); }, `rolled back to version ${version}`);
  });
}

// Headers hold bytes: UTF-8 travels as one character a byte.
const encodeLatin = (text) => String.fromCharCode(...new TextEncoder().encode(text));
