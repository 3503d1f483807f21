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
    soon();
    waiting = false;
    flush();
  };

  // How far the pictures, all at once, are zoomed: not in the address, and kept where the page loads itself again.
  const LOOK = "actstore-look";
  const ranges = () => {
    const picture = document.querySelector(".picture");
    for (const { model, root } of views()) {
      if (model.type === "Figure" && picture?.contains(root?.el ?? null)) { return [model.x_range, model.y_range]; }
    }
    return [];
  };
  // Of a store of other images it means nothing.
  const looking = () => document.getElementById("pictures").dataset.images;
  const again = (to = location.href) => {
    const look = { images: looking(), ranges: ranges().map(({ start, end }) => ({ start, end })) };
    try { sessionStorage.setItem(LOOK, JSON.stringify(look)); } catch { /* not allowed here: the page begins as its address says */ }
    if (to === location.href) { location.reload(); } else { location.assign(to); }
  };
  const looked = () => {
    try {
      const look = JSON.parse(sessionStorage.getItem(LOOK) ?? "{}");
      sessionStorage.removeItem(LOOK);
      if (look.images === looking()) { ranges().forEach((range, i) => range.setv(look.ranges[i])); }
    } catch { /* as above */ }
  };

  // The store has changed, as where a capture has committed more: the page is loaded again at its address, but not below the reader's hands.
  const REST = 8000;
  let resting = 0;
  window.actstoreGrown = (text) => {
    const line = document.getElementById("grown");
    const rest = () => { clearTimeout(resting); resting = setTimeout(again, REST); };
    if (line.hidden) {
      for (const kind of ["keydown", "pointermove", "pointerdown", "wheel"]) { window.addEventListener(kind, rest, { capture: true, passive: true }); }
    }
    line.querySelector("span").textContent = text;
    line.hidden = false;
    rest();
  };

  window.addEventListener("popstate", () => send("visit", location.search));

  const views = function* (view = null) {
    for (const one of view ? view.child_views ?? [] : Object.values(window.Bokeh?.index ?? {})) { yield one; yield* views(one); }
  };
  const every = function* (root, selector) {
    for (const node of root.querySelectorAll("*")) {
      if (node.matches(selector)) { yield node; }
      if (node.shadowRoot) { yield* every(node.shadowRoot, selector); }
    }
  };
  // What Bokeh's elements are, for screen readers and the keyboard.
  const named = () => {
    for (const bar of every(document, ".bk-header")) {
      const tabs = [...every(bar, ".bk-tab")];
      if (!tabs.length) { continue; }
      tabs[0].parentElement.setAttribute("role", "tablist");
      // Bokeh puts it behind what it opens: Tab would come to it last.
      if (bar.previousElementSibling) { bar.parentNode.prepend(bar); }
      tabs.forEach((tab, i) => {
        const open = tab.classList.contains("bk-active");
        tab.setAttribute("role", "tab");
        tab.setAttribute("aria-selected", open);
        tab.tabIndex = open ? 0 : -1;
        tab.onkeydown = (event) => {
          const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
          if (to !== undefined) { const next = tabs[(to + tabs.length) % tabs.length]; next.click(); next.focus(); }
          if (event.key === "Enter" || event.key === " ") { event.preventDefault(); tab.click(); }
        };
      });
    }
    for (const view of views()) {
      const kind = view.model?.type ?? "";
      const radio = kind.endsWith("RadioButtonGroup");
      if (!radio && !kind.endsWith("CheckboxButtonGroup")) { continue; }
      for (const group of every(view.shadow_el, ".bk-btn-group")) {
        group.setAttribute("role", radio ? "radiogroup" : "group");
        group.setAttribute("aria-label", view.model.label || view.model.title || (radio ? "one of these" : "outlines"));
        for (const button of group.children) {
          if (radio) { button.setAttribute("role", "radio"); }
          button.setAttribute(radio ? "aria-checked" : "aria-pressed", button.classList.contains("bk-active"));
        }
      }
    }
    // The grid swallows Tab: it is reached, and left, as one thing.
    for (const table of every(document, ".bk-data-table")) {
      const parts = [...every(table, "[tabindex]")];
      for (const part of parts) { part.tabIndex = -1; }
      const viewport = table.querySelector(".slick-viewport");
      if (viewport) { viewport.tabIndex = 0; viewport.setAttribute("role", "region"); viewport.setAttribute("aria-label", "Table of samples"); }
    }
    // Figures answer to the pointer alone; what they choose, menus and buttons choose too.
    for (const layer of every(document, ".bk-events[tabindex]")) { layer.tabIndex = -1; }
    for (const [name, label] of [["up", "one more"], ["down", "one less"]]) {
      for (const button of every(document, `.bk-spin-btn-${name}`)) { button.setAttribute("aria-label", label); button.tabIndex = -1; }
    }
    for (const handle of every(document, ".noUi-handle")) {
      const root = handle.getRootNode();
      // A slider of given values has its title in the element before it.
      const title = root.querySelector?.(".bk-slider-title")?.textContent || root.host?.previousElementSibling?.shadowRoot?.querySelector("div")?.textContent;
      handle.setAttribute("aria-label", title || "slider");
    }
    const heads = [...every(document, ".heads b")].map((head) => head.textContent);
    document.querySelectorAll(".picture").forEach((picture, i) => { if (heads[i]) { picture.setAttribute("aria-label", heads[i]); } });
  };
  let naming = 0;
  const soon = () => { clearTimeout(naming); naming = setTimeout(named, 120); };

  const columns = (data) => data instanceof Map ? Object.fromEntries(data) : data;

  // Values below the pointer, in all pictures.
  const under = (x, y) => {
    const found = [];
    for (const picture of document.querySelectorAll(".picture")) {
      let text = "";
      for (const view of views()) {
        if (view.model.type !== "Figure" || !picture.contains(view.root?.el ?? null)) { continue; }
        // The last one: below a map may lie its input, which reaches further than some maps.
        const shown = view.model.renderers.findLast(({ glyph }) => glyph?.type === "Image");
        const { image, x: left, y: top, dw, dh } = columns(shown.data_source.data);
        if (!image?.length) { continue; }
        const [height, width] = image[0].shape;
        const row = Math.floor((y - top[0]) / dh[0] * height), column = Math.floor((x - left[0]) / dw[0] * width);
        if (row >= 0 && row < height && column >= 0 && column < width) {
          const value = image[0][row * width + column];
          text = Number.isFinite(value) ? value.toPrecision(3).replace("-", "−") : "—";
        }
      }
      found.push(text || "—");
    }
    const half = found.length / 2;
    return `x ${Math.round(x)} y ${Math.round(y)}: input ${found.slice(0, half).join(" | ")} · map ${found.slice(half).join(" | ")}`;
  };
  let pointed = 0;
  window.actstorePointed = (x, y) => {
    cancelAnimationFrame(pointed);
    pointed = requestAnimationFrame(() => { document.getElementById("under").textContent = under(x, y); });
  };

  // Other data came below a pointer that rests: it is as if it had moved, for what hovers and for the line above pictures.
  let rests = null;
  let drawn = 0;
  window.actstoreDrawn = () => {
    cancelAnimationFrame(drawn);
    drawn = requestAnimationFrame(() => {
      if (!rests) { return; }
      const { target, clientX, clientY } = rests;
      const like = { clientX, clientY, pointerType: "mouse", isPrimary: true, bubbles: true, composed: true };
      target.dispatchEvent(new PointerEvent("pointermove", like));
    });
  };

  const typing = (event) => event.composedPath().some((node) =>
    node.tagName === "SELECT" || node.tagName === "TEXTAREA" || node.isContentEditable
    || (node.tagName === "INPUT" && !["checkbox", "radio", "button"].includes(node.type))
    || node.getAttribute?.("role") === "slider");

  window.addEventListener("keydown", (event) => {
    const keys = document.getElementById("keys");
    // Not the grid's: it would step through its cells, and never let go.
    if (event.key === "Tab" && event.composedPath().some((node) => node.classList?.contains("bk-data-table"))) { event.stopImmediatePropagation(); }
    if (event.ctrlKey || event.altKey || event.metaKey || keys.open || !model("key")) { return; }
    if (event.key === "Escape") { document.activeElement?.blur(); send("key", "clear all"); return; }
    // Arrows of tabs and groups of buttons are their own.
    if (typing(event) || event.composedPath().some((node) => node.getAttribute?.("role") === "tab")) { return; }
    const does = { "?": () => keys.showModal(), "/": () => document.querySelector("#jump input").focus(), w: turned,
      t: () => send("key", "view target"), 0: () => send("key", "view whole") }[event.key];
    if (does) { event.preventDefault(); does(); return; }
    const step = STEPS[event.key];
    if (step === undefined) { return; }
    // Before a table that has the focus steps through its rows.
    event.preventDefault();
    event.stopPropagation();
    const [field, one] = step;
    stepped(field, one);
  }, true);

  let slices = false;
  const turned = () => {
    slices = !slices;
    const button = document.getElementById("wheel");
    button.textContent = slices ? "wheel: slices" : "wheel: zoom";
    button.setAttribute("aria-pressed", slices);
  };
  const stepped = (field, one) => {
    const last = held.at(-1);
    if (last?.field === field && Math.sign(last.steps) === one) { last.steps += one; } else { held.push({ field, steps: one }); }
    if (!waiting) { flush(); }
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
    looked();
    const lost = (is) => { document.getElementById("lost").hidden = !is; };
    window.Bokeh.documents[0].on_event("connection_lost", () => lost(true));
    window.Bokeh.documents[0].on_event("client_reconnected", () => lost(false));
  };

  document.addEventListener("DOMContentLoaded", () => {
    started();
    const pictures = document.getElementById("pictures");
    pictures.addEventListener("dblclick", () => send("key", "view whole"));
    pictures.addEventListener("wheel", (event) => {
      if (!slices || !event.target.closest?.(".row")) { return; }
      event.preventDefault();
      event.stopPropagation();
      stepped("slice", Math.sign(event.deltaY));
    }, { capture: true, passive: false });
    window.addEventListener("pointermove", (event) => {
      if (!event.isTrusted) { return; }
      const path = event.composedPath(), { clientX, clientY } = event;
      rests = path.some((node) => node.classList?.contains("bk-events")) ? { target: path[0], clientX, clientY } : null;
    }, { capture: true, passive: true });
    pictures.addEventListener("mouseleave", () => { document.getElementById("under").textContent = ""; });
    for (const button of pictures.querySelectorAll("[data-look]")) {
      button.addEventListener("click", () => send("key", `view ${button.dataset.look}`));
    }
    document.getElementById("wheel").addEventListener("click", turned);
    document.getElementById("help").addEventListener("click", () => document.getElementById("keys").showModal());
    document.getElementById("jump").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = event.currentTarget.querySelector("input");
      send("key", `jump ${encodeURIComponent(field.value)}`);
      field.blur();
    });
    document.getElementById("copy").addEventListener("click", (event) => copied(event.currentTarget));
    for (const button of document.querySelectorAll("#lost button, #grown button")) { button.addEventListener("click", () => again()); }
    document.getElementById("theme").addEventListener("click", (event) => {
      const there = new URL(location.href);
      there.searchParams.set("theme", event.currentTarget.dataset.other);
      again(there.href);
    });
    // Bokeh's pages say so twice.
  }, { once: true });
})();
