// The latest decisions; each opens the story of its request.
import { get } from "./api.js";
import { $, make, ms } from "./draw.js";

const MOST = 80;
const drawn = (each) => `${each.number} ${each.request_id}`;

export async function story(id) {
  const told = await get(`/requests/${encodeURIComponent(id)}`);
  $("story-title").textContent = `Request ${id}`;
  $("story-lines").replaceChildren(...told.story.map((line) =>
    make("li", { class: line.includes("MISSED") || line.startsWith("refused") ? "bad" : null }, line)));
  $("story").showModal();
}

export function decisions(found, open) {
  if ($("hold").checked || !found.decisions.length) return;
  const missedOnly = $("missed-only").checked;
  const stream = $("stream");
  // What a stream that was opened again repeats is there already.
  const known = new Set([...stream.children].map((line) => line.dataset.key));
  const lines = found.decisions
    .filter((each) => !known.has(drawn(each)) && known.add(drawn(each)))
    .filter((each) => !missedOnly || each.met === false || each.dropped_reason)
    .map((each) => {
      const verdict = each.dropped_reason ?? (each.met === false ? "missed" : each.met ? "met" : each.outcome);
      const bad = each.met === false || each.dropped_reason || each.outcome === "failed";
      return make("tr", { "data-key": drawn(each) },
        make("td", {}, make("button", { type: "button", class: "link", onclick: () => open(each.request_id) },
          each.request_id.slice(0, 16))),
        make("td", {}, each.class), make("td", {}, each.model), make("td", {}, each.endpoint ?? "–"),
        make("td", {}, each.reason ?? "–"), make("td", { class: "n" }, ms(each.queue_s)),
        make("td", { class: "n" }, ms(each.first_token_s)), make("td", { class: "n" }, ms(each.total_s)),
        make("td", { class: bad ? "bad" : "good" }, verdict));
    });
  stream.prepend(...lines);
  while (stream.children.length > MOST) stream.lastChild.remove();
}
