// Classes with what they are promised, the queue, spill, and what changed.
import { $, chart, make, ms, number, percent, say } from "./draw.js";

const cards = new Map();

function card(name) {
  const made = make("article", { class: "card", "aria-label": `class ${name}` }, make("h3", {}, name));
  const big = make("div", { class: "big" });
  const facts = make("dl", { class: "facts" });
  const charts = make("div");
  made.append(big, facts, charts);
  $("classes").append(made);
  return { big, facts, charts };
}

export function list(element, pairs) {
  const wanted = 2 * pairs.length;
  while (element.children.length > wanted) element.lastChild.remove();
  pairs.forEach(([term, value], index) => {
    if (element.children.length <= 2 * index) element.append(make("dt"), make("dd"));
    say(element.children[2 * index], term);
    say(element.children[2 * index + 1], value);
  });
}

export function overview(found) {
  for (const [name, { windows, trend }] of Object.entries(found.classes)) {
    if (!cards.has(name)) cards.set(name, card(name));
    const { big, facts, charts } = cards.get(name);
    const now = windows["5m"];
    say(big, now.attainment == null ? "no targets yet" : `${percent(now.attainment)} attained`);
    big.className = `big ${now.attainment == null ? "quiet" : now.attainment >= found.objective ? "good" : "bad"}`;
    const last = trend.at(-1) ?? [];
    list(facts, [
      ["Burn rate", ["5m", "1h", "6h"].map((w) => `${number(windows[w].burn_rate)} (${w})`).join("  ")],
      ["Requests, 5 min", `${now.requests}`],
      ["TTFT p50 / p99", `${ms(last[1])} / ${ms(last[2])}`],
      ["TPOT p50 / p99", `${ms(last[3])} / ${ms(last[4])}`],
      ["Waiting", `${found.queue[name]}`],
    ]);
    const over = (column) => trend.map((point) => [-point[0], point[column] == null ? null : 1000 * point[column]]);
    const range = { x0: -600, x1: 0, unit: "ms" };
    charts.replaceChildren(
      chart("TTFT, ten minutes: p50 blue, p99 amber", [{ points: over(1), style: "a" }, { points: over(2), style: "b" }], range),
      chart("TPOT, ten minutes: p50 blue, p99 amber", [{ points: over(3), style: "a" }, { points: over(4), style: "b" }], range),
    );
  }
  const { away } = found;
  list($("flow"), [
    ["In flight", `${found.in_flight}`],
    ["Waiting", Object.entries(found.queue).map(([name, count]) => `${count} ${name}`).join(", ")],
    ["Spill, 5 min", away.requests
      ? `${away.requests} requests (${percent(away.share)}) were served away from home; ${percent(away.met)} of them within their targets`
      : "nobody needed it"],
    ["Endpoints", states(found.endpoints)],
  ]);
  const happened = found.events.slice(-12).reverse();
  const key = JSON.stringify(happened);
  if ($("happened").dataset.key !== key) {
    $("happened").dataset.key = key;
    $("happened").replaceChildren(...(happened.length ? happened : [null]).map((each) => each
      ? make("li", {}, `${each.at.slice(11, 19)} ${each.endpoint}: ${each.from} → ${each.to}, ${each.why}`)
      : make("li", { class: "quiet" }, "no endpoint changed its state")));
  }
}

function states(endpoints) {
  const counts = {};
  for (const { state } of endpoints) counts[state] = (counts[state] ?? 0) + 1;
  return Object.entries(counts).map(([state, count]) => `${count} ${state}`).join(", ");
}
