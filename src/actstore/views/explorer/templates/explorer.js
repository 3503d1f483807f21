// Address, history, keys and clipboard: what a page cannot do from the server.
(() => {
  const STEPS = { ArrowUp: ["slice", -1], ArrowDown: ["slice", 1], ArrowLeft: ["channel", -1], ArrowRight: ["channel", 1] };
  let waiting = false;
  // Steps to send, in order; those of one direction together, since an end stops each by itself.
  const held = [];
  let serial = 0;

  const model = (name) => window.Bokeh?.documents[0]?.get_model_by_name(`actstore-${name}`);
  const send = (name, text) => { model(name).value = `${++serial} ${text}`; };

  const theme = () => new URLSearchParams(location.search).get("theme");
  const address = (query) => {
    const chosen = theme();
    return "?" + query + (chosen ? `${query ? "&" : ""}theme=${chosen}` : "");
  };

  const flush = () => {
    const next = held.shift();
    if (next === undefined) { return; }
    waiting = true;
    send("key", `${next.field} ${next.steps}`);
  };

  // The server has shown a state: "serial how query".
  window.actstoreShown = (text) => {
    const [number, how, query = ""] = text.split(" ");
    if (how === "push" && address(query) !== location.search) {
      history.pushState(null, "", address(query));
    } else if (how !== "keep") {
      history.replaceState(null, "", address(query));
    }
    document.documentElement.dataset.shown = number;
    waiting = false;
    flush();
  };

  window.addEventListener("popstate", () => send("visit", location.search));

  const typing = (event) => event.composedPath().some((node) =>
    node.tagName === "SELECT" || node.tagName === "TEXTAREA" || node.isContentEditable
    || (node.tagName === "INPUT" && !["checkbox", "radio", "button"].includes(node.type))
    || node.getAttribute?.("role") === "slider");

  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || typing(event) || !model("key")) { return; }
    if (event.key === "0") {
      for (const view of Object.values(window.Bokeh.index ?? {})) { view.model?.name?.match(/^(input|map)_/) && reset(view); }
      return;
    }
    const step = STEPS[event.key];
    if (step === undefined) { return; }
    // Before a table that has the focus steps through its rows.
    event.preventDefault();
    event.stopPropagation();
    const [field, one] = step;
    const last = held.at(-1);
    if (last?.field === field && Math.sign(last.steps) === one) { last.steps += one; } else { held.push({ field, steps: one }); }
    if (!waiting) { flush(); }
  }, true);

  const reset = (view) => {
    view.reset?.();
    for (const child of view.child_views ?? []) { reset(child); }
  };

  const copied = async (button) => {
    const text = location.href;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
      field.select();
      done = document.execCommand("copy");
      field.remove();
    }
    button.textContent = done ? "copied" : "copy it from the address bar";
    setTimeout(() => { button.textContent = "copy link"; }, 1500);
  };

  const started = () => {
    const first = model("address");
    if (!first || !window.Bokeh.documents[0].is_idle) { setTimeout(started, 30); return; }
    window.actstoreShown(first.value);
    const lost = (is) => { document.getElementById("lost").hidden = !is; };
    window.Bokeh.documents[0].on_event("connection_lost", () => lost(true));
    window.Bokeh.documents[0].on_event("client_reconnected", () => lost(false));
  };

  document.addEventListener("DOMContentLoaded", () => {
    started();
    document.getElementById("copy").addEventListener("click", (event) => copied(event.currentTarget));
    document.querySelector("#lost button").addEventListener("click", () => location.reload());
    document.getElementById("theme").addEventListener("click", (event) => {
      const there = new URL(location.href);
      there.searchParams.set("theme", event.currentTarget.dataset.other);
      location.assign(there);
    });
  });
})();
