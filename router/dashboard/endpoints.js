// One row an endpoint, written only where something changed.
import { ask } from "./api.js";
import { $, make, ms, number, percent, say } from "./draw.js";

const rows = new Map();

function row(endpoint, act) {
  const cells = Array.from({ length: 10 }, (_, index) => make(index ? "td" : "th", {
    class: [3, 5, 6, 7].includes(index) ? "n" : null, scope: index ? null : "row",
  }));
  const meter = make("meter", { min: 0, "aria-label": `slots taken at ${endpoint.id}` });
  cells[4].append(meter);
  const button = make("button", { type: "button", onclick: () => act(rows.get(endpoint.id).latest) });
  cells[9].append(button);
  const line = make("tr", {}, ...cells);
  return { line, cells, meter, button, latest: endpoint };
}

const COLOUR = { up: "good", down: "bad", suspect: "warn", trial: "warn", draining: "quiet" };

export function endpoints(found, done) {
  const act = async ({ id, pool, state }) => {
    const action = state === "draining" ? "undrain" : "drain";
    await done(() => ask("POST", `/pools/${pool}/endpoints/${id}/${action}`), `${id}: ${action}ed`);
  };
  const wanted = $("find").value.toLowerCase();
  const present = new Set();
  for (const endpoint of found.endpoints) {
    present.add(endpoint.id);
    if (!rows.has(endpoint.id)) {
      rows.set(endpoint.id, row(endpoint, act));
      $("rows").append(rows.get(endpoint.id).line);
    }
    const { line, cells, meter, button } = rows.get(endpoint.id);
    rows.get(endpoint.id).latest = endpoint;
    const hidden = !`${endpoint.id} ${endpoint.pool} ${endpoint.state}`.includes(wanted);
    if (line.hidden !== hidden) line.hidden = hidden;
    if (hidden) continue;
    say(cells[0], endpoint.id);
    say(cells[1], endpoint.pool);
    say(cells[2], endpoint.state);
    cells[2].className = COLOUR[endpoint.state] ?? "";
    say(cells[3], `${endpoint.in_flight}/${endpoint.slots}`);
    if (meter.max !== endpoint.slots) meter.max = endpoint.slots;
    if (meter.value !== endpoint.in_flight) meter.value = endpoint.in_flight;
    say(cells[5], number(endpoint.weight, 2));
    say(cells[6], ms(endpoint.first_token_s));
    say(cells[7], percent(endpoint.kv_usage));
    say(cells[8], endpoint.why);
    say(button, endpoint.state === "draining" ? "Undrain" : "Drain");
  }
  for (const [id, { line }] of rows) {
    if (!present.has(id)) { line.remove(); rows.delete(id); }
  }
  const pools = [...new Set(found.endpoints.map(({ pool }) => pool))];
  const choice = $("add-endpoint").elements.pool;
  if (choice.dataset.key !== pools.join()) {
    choice.dataset.key = pools.join();
    choice.replaceChildren(...pools.map((pool) => make("option", {}, pool)));
  }
}

export function startEndpoints(done, added) {
  $("add-endpoint").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { pool, ...endpoint } = Object.fromEntries(new FormData(event.target));
    endpoint.weight = Number(endpoint.weight);
    const form = event.target;
    await done(async () => {
      await ask("POST", `/pools/${pool}/endpoints`, { body: endpoint });
      form.reset();
      added(endpoint.id);
    }, `${endpoint.id} added: it is sent requests by its weight; Variants gives it a share instead`);
  });
}
