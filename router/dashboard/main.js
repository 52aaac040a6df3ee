// Puts the page together: sign-in, tabs, one stream of snapshots for all views.
import { Problem, token, watch } from "./api.js";
import { decisions, story } from "./decisions.js";
import { $, say } from "./draw.js";
import { endpoints, startEndpoints } from "./endpoints.js";
import { overview } from "./overview.js";
import { loadPolicy, startPolicy } from "./policy.js";
import { prefer, startVariants, variants } from "./variants.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
let latest = null;
let pending = false;

function notice(text, bad = false) {
  $("notice").hidden = !text;
  $("notice").className = bad ? "bad" : "";
  say($("notice"), text);
}

async function done(action, words) {
  try {
    await action();
    notice(words);
  } catch (error) {
    if (error instanceof Problem && error.status === 401) return signIn(error.message);
    notice(error.errors?.map((each) => `${each.pointer}: ${each.message}`).join("; ") || error.message, true);
  }
}

function show(tab) {
  for (const each of tabs) {
    const chosen = each === tab;
    each.setAttribute("aria-selected", String(chosen));
    each.tabIndex = chosen ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (tab.id === "tab-policy") done(loadPolicy, "");
  else draw();
}

function draw() {
  pending = false;
  if (!latest) return;
  const began = performance.now();
  say($("headline"), `${latest.in_flight} in flight, ${Object.values(latest.queue).reduce((a, b) => a + b)} waiting; policy version ${latest.policy_version}${latest.draining ? "; draining" : ""}`);
  if (!$("overview").hidden) overview(latest);
  if (!$("endpoints").hidden) endpoints(latest, done);
  if (!$("variants").hidden) variants(latest, done);
  const took = performance.now() - began;
  performance.measure("headway-update", { start: began, duration: took });
}

function seen(found, isLast) {
  decisions(found, (id) => done(() => story(id), ""));
  if (!isLast) return;
  latest = found;
  if (!pending) { pending = true; requestAnimationFrame(draw); }
}

async function follow() {
  for (let pause = 500; ; pause = Math.min(10000, 2 * pause)) {
    try {
      await watch((found, isLast) => { pause = 500; seen(found, isLast); });
      say($("headline"), "the router has gone; trying again");
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return signIn(error.message);
      say($("headline"), `not connected: ${error.message}; trying again`);
    }
    await new Promise((wake) => setTimeout(wake, pause));
  }
}

function signIn(problem = "") {
  token.drop();
  say($("sign-in-problem"), problem);
  if (!$("sign-in").open) $("sign-in").showModal();
}

$("sign-in").addEventListener("cancel", (event) => event.preventDefault());
$("sign-in").addEventListener("close", () => { token.set($("token").value.trim()); $("token").value = ""; follow(); });
for (const tab of tabs) {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = tabs.at((tabs.indexOf(tab) + step) % tabs.length);
    next.focus();
    show(next);
  });
}
$("find").addEventListener("input", draw);
$("find-request").addEventListener("submit", (event) => {
  event.preventDefault();
  done(() => story(event.target.elements.id.value.trim()), "");
});
startEndpoints(done, prefer);
startPolicy(done);
startVariants(done);
if (token.get()) follow(); else signIn();
