// How the page speaks to the router. The token lives in this tab alone.
const KEY = "headway-token";
export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  drop: () => sessionStorage.removeItem(KEY),
};

export class Problem extends Error {
  constructor(status, error) {
    super(error?.message ?? `the router answered ${status}`);
    this.status = status;
    this.errors = error?.errors ?? [];
  }
}

export async function ask(method, path, { body, headers = {}, signal } = {}) {
  const answer = await fetch(`/admin/v1${path}`, {
    method,
    signal,
    headers: { authorization: `Bearer ${token.get() ?? ""}`, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
  });
  if (answer.ok) return answer;
  const document = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, document.error);
}

export const get = async (path) => (await ask("GET", path)).json();

// fetch instead of EventSource, which cannot send the token.
export async function watch(seen, signal) {
  const answer = await ask("GET", "/events", { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    // Whoever was behind needs only the latest state, but every decision.
    for (const [index, event] of events.entries()) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) seen(JSON.parse(data.slice(6)), index === events.length - 1);
    }
  }
}
